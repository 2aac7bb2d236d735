"""A custom node for tests: tiny models of a family, as ComfyUI's own classes build them.

It is linked into a test server's custom_nodes and never part of the pack.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

# What a family's network takes from its tiny text encoders, where it is not of TEXT_WIDTH.
SD3_WIDTH = 4096
FITTING: dict[str, dict[str, Any]] = {
    "flux": {"vec_in_dim": 64},
    "flux2": {"context_in_dim": 192},
    "sd3": {
        "adm_in_channels": 128,
        "context_embedder_config": {
            "target": "torch.nn.Linear",
            "params": {"in_features": SD3_WIDTH, "out_features": 256},
        },
    },
}


def load_transformer(family: str) -> tuple[Any, Any, Any, Any]:
    """Return MODEL, CLIP, VAE and CLIP_VISION of a family that fit each other."""
    from tiny_text_encoders import build_clip
    from tiny_transformers import TinyVAE, TinyVision, build_model

    model = build_model(family, **FITTING.get(family, {}))
    return model, build_clip(family), TinyVAE(model), TinyVision()


class LoadTinyTransformer:
    """Makes tiny models of a family that this ComfyUI has."""

    CATEGORY = "testing"
    RETURN_TYPES = ("MODEL", "CLIP", "VAE", "CLIP_VISION")
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        from tiny_transformers import FAMILIES

        return {"required": {"family": (list(FAMILIES),)}}

    def load(self, family: str) -> tuple[Any, Any, Any, Any]:
        """Return MODEL, CLIP, VAE and CLIP_VISION."""
        return load_transformer(family)


NODE_CLASS_MAPPINGS = {"LoadTinyTransformer": LoadTinyTransformer}
