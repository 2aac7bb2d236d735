"""The category, the search words, the style's socket and the inputs that several nodes share."""

import inspect
from typing import Any

from comfy_api.latest import io

from .comfyui.schedule import APPLIES_TO, BOTH, CONSTANT, EASES

CATEGORY = "ACFun"
# ComfyUI 0.3.64 has none.
_HAS_ALIASES = "search_aliases" in inspect.signature(io.Schema).parameters

StyleSocket = io.Custom("ACFUN_STYLE")


def search_aliases(*words: str) -> dict[str, Any]:
    """Return the argument of a schema that lets the search find a node by these words."""
    return {"search_aliases": list(words)} if _HAS_ALIASES else {}


def mark(option: io.Input, **entries: Any) -> io.Input:
    """Return an input that tells the page more; what is ``advanced`` it hides until asked for."""
    # Older ComfyUI has no argument for it.
    option.extra_dict = {**option.extra_dict, **entries}
    return option


def strength_input(name: str, tooltip: str) -> io.Float.Input:
    """Return an input for a strength; ``tooltip`` says of what."""
    return io.Float.Input(
        name, default=1.0, min=0.0, max=3.0, step=0.05, tooltip=f"{tooltip} 0 is off, 1 as trained."
    )


def block_strengths_input() -> io.String.Input:
    """Return the input that sets the adapters' strengths block by block."""
    text = io.String.Input(
        "block_strengths",
        default="",
        optional=True,
        tooltip="Strengths of single blocks, 0 to 3, by the beginning of their names: "
        "output_blocks.0=0.5, input_blocks.8=0. Each is multiplied by its part's. For SDXL also "
        "style blocks only: what B-LoRA found for attention, carried over to ResBlocks, untested.",
    )
    return mark(text, advanced=True)


def applies_to_input() -> io.Input:
    """Return the input that says under which prompts the adapters act."""
    choice = io.Combo.Input(
        "applies_to",
        options=list(APPLIES_TO),
        default=BOTH,
        optional=True,
        tooltip="Under which prompts the adapters act. Positive only draws the style stronger, "
        "since guidance then pushes away from the plain picture.",
    )
    return mark(choice, advanced=True)


def ease_input(span: str) -> io.Input:
    """Return the input that sets the adapters' strength over a span of sampling."""
    choice = io.Combo.Input(
        "ease",
        options=list(EASES),
        default=CONSTANT,
        optional=True,
        tooltip=f"The adapters' strength {span}: constant, growing from 0, falling to 0, or "
        "growing to the middle and falling again.",
    )
    return mark(choice, advanced=True)
