"""Whether a style fits a model: one rule for drawing and training, in ComfyUI and without it."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ACFunError
from ..messages import Message
from ..model_families import name_of
from .style import Style


@dataclass(frozen=True)
class ModelShape:
    """What a style must have in common with a model."""

    family: str
    """A key of ``model_families.FAMILIES``."""
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
            "The style {reason}. Use a model like the one it was trained on, or train a "
            "new style on this one.",
            reason=reason,
        )


def misfit(style: Style, model: ModelShape) -> str | None:
    """Return why a style does not fit, to follow its name in a sentence; None if it does."""
    there = name_of(style.facts.family, style.context_width)
    here = name_of(model.family, model.context_width)
    if there != here:
        return Message("was trained on {there}; this model is {here}", there=there, here=here)
    if style.context_width != model.context_width:
        return Message(
            "was trained on {there} whose prompt embeddings are {context_width} wide; "
            "this model takes {model_width}",
            there=there,
            context_width=style.context_width,
            model_width=model.context_width,
        )
    if style.block_widths != model.block_widths:
        return Message(
            "was trained on {there} with other blocks than this model: its {count} and "
            "the {model_count} of this model differ in name or width",
            there=there,
            count=len(style.concrete),
            model_count=len(model.block_widths),
        )
    return None
