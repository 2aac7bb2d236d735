"""A custom node pack for tests, pictures and tutorials: Load Small Prior.

It is linked into a test server's custom_nodes and never part of the pack.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

PRIOR = Path(__file__).resolve().parents[4] / "evaluation" / "toy" / "prior"


class LoadSmallPrior:
    """Loads the prior of evaluation/toy for the stock nodes."""

    CATEGORY = "testing"
    RETURN_TYPES = ("MODEL", "CLIP", "VAE", "CLIP_VISION")
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {}}

    def load(self) -> tuple[Any, Any, Any, Any]:
        """Return MODEL, CLIP, VAE and CLIP_VISION."""
        from .loading import load_prior

        return load_prior(PRIOR)


NODE_CLASS_MAPPINGS = {"LoadSmallPrior": LoadSmallPrior}
NODE_DISPLAY_NAME_MAPPINGS = {"LoadSmallPrior": "Load Small Prior"}
