"""Whether a style fits a model: one rule for drawing and training, in ComfyUI and without it."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ACFunError
from ..model_families import name_of
from .style import Style


@dataclass(frozen=True)
class ModelShape:
    """What a style must have in common with a model."""

    family: str
    """See ``families.FAMILIES``."""
    context_width: int
    """Width of the prompt embeddings that the U-Net takes."""
    block_widths: Mapping[str, int]
    """Channels of each block that an insert of the style can hang on, by canonical name."""


def check_fits(style: Style, model: ModelShape) -> None:
    """Refuse a style that was trained on another kind of model.

    Raises:
        ACFunError: family, context width, blocks or their widths differ.
    """
    reason = misfit(style, model)
    if reason is not None:
        raise ACFunError(
            f"The style {reason}. Use a model like the one it was trained on, or train a new style "
            "on this one."
        )


def misfit(style: Style, model: ModelShape) -> str | None:
    """Return why a style does not fit, to follow its name in a sentence; None if it does."""
    there = name_of(style.facts.family, style.context_width)
    here = name_of(model.family, model.context_width)
    if there != here:
        return f"was trained on {there}; this model is {here}"
    if style.context_width != model.context_width:
        return (
            f"was trained on {there} whose prompt embeddings are {style.context_width} wide; this "
            f"model takes {model.context_width}"
        )
    if style.block_widths != model.block_widths:
        return (
            f"was trained on {there} with other blocks than this model: its {len(style.concrete)} "
            f"and the {len(model.block_widths)} of this model differ in name or width"
        )
    return None
