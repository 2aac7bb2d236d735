"""ComfyUI imported into the test process, for tests that need no server."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from models_dir import ModelsDir


class ComfyLibrary:
    """Loads the tiny models through ComfyUI's own nodes, in inference mode as its executor does.

    What is loaded is kept for the session and shared, as ComfyUI shares what its loaders return:
    a test that changes a model changes it for all. Their encoders are short, as in the servers.
    """

    def __init__(self, models: ModelsDir) -> None:
        import nodes

        self.nodes = nodes
        self.checkpoint = cache(self.load_checkpoint)
        self.clip_vision = cache(self._load_clip_vision)
        self._models = models

    @torch.inference_mode()
    def load_checkpoint(self, key: str = "sd1") -> tuple[Any, Any, Any]:
        """Return MODEL, CLIP and VAE of a tiny checkpoint, not shared; CLIP is None without one."""
        loader = self.nodes.CheckpointLoaderSimple()
        model, clip, vae = loader.load_checkpoint(self._models.name(key))
        return model, clip, vae

    @torch.inference_mode()
    def _load_clip_vision(self) -> Any:
        """Return the CLIP_VISION of the tiny ViT-L/14."""
        return self.nodes.CLIPVisionLoader().load_clip(self._models.name("clip_vision"))[0]
