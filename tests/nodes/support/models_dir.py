"""A models folder in ComfyUI's layout whose tiny models are written when first asked for."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tiny_models


@dataclass(frozen=True)
class TinyModel:
    """Where a tiny model goes, and what writes it."""

    folder: str
    file_name: str
    write: Callable[[Path], None]


TINY_MODELS = {
    "sd1": TinyModel("checkpoints", "tiny_sd1.safetensors", tiny_models.write_sd1_checkpoint),
    "sd2_v": TinyModel("checkpoints", "tiny_sd2_v.safetensors", tiny_models.write_sd2_v_checkpoint),
    "sdxl": TinyModel("checkpoints", "tiny_sdxl.safetensors", tiny_models.write_sdxl_checkpoint),
    "koala": TinyModel("checkpoints", "tiny_koala.safetensors", tiny_models.write_koala_checkpoint),
    "sd3": TinyModel("checkpoints", "tiny_sd3.safetensors", tiny_models.write_sd3_checkpoint),
    "unet_only": TinyModel(
        "checkpoints", "tiny_unet_only.safetensors", tiny_models.write_unet_only
    ),
    "clip_vision": TinyModel(
        "clip_vision", "tiny_clip_vit_l.safetensors", tiny_models.write_clip_vision
    ),
    "controlnet": TinyModel(
        "controlnet", "tiny_controlnet.safetensors", tiny_models.write_controlnet
    ),
    "lora": TinyModel("loras", "tiny_lora.safetensors", tiny_models.write_lora),
    "upscale": TinyModel(
        "upscale_models", "tiny_esrgan_x2.safetensors", tiny_models.write_upscale_model
    ),
}


class ModelsDir:
    """The folder `root`, filled on demand with the models of TINY_MODELS.

    Several processes may share it: one of them writes a model, and the others wait for it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Return the file of a tiny model, written if it is not there yet."""
        model = TINY_MODELS[key]
        path = self.root / model.folder / model.file_name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # Until the file is closed.
                if not path.exists():
                    model.write(path)
        return path

    def name(self, key: str) -> str:
        """Return the name by which ComfyUI's loader nodes know a tiny model, which exists then."""
        return self.path(key).name
