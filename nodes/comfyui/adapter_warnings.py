"""Warnings about samplings and files in which a style acts hardly, elsewhere or not."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...acfun_ops.messages import Message

SLIVER = 0.1
"""A strength that is hardly seen."""
SAVED_WITHOUT = (
    "The checkpoint is saved without the style: its adapters are no weights of the model. Save the "
    "style with Save ACFun Style and apply it wherever the checkpoint is loaded."
)
NO_MIDDLE = (
    "This style has no adapters in the middle of a network, so middle_strength does nothing."
)
ALL_BLACK = "The mask is all black: the style does not act. Paint white where it shall."
NO_STEP = (
    "This sampling has no step between start_percent and end_percent, so the adapters did not act "
    "in it. With denoise below 1 it begins later: raise end_percent."
)
NO_DIFFERENCE = (
    "A difference of models, as Model Subtract and Extract and Save LoRA take it, lacks the style: "
    "its adapters are no weights of the model. Save the style with Save ACFun Style instead."
)


def is_difference(patcher: Any) -> bool:
    """Tell whether a MODEL is what Model Subtract makes: its weights less those of another."""
    entries = (entry for entries in patcher.patches.values() for entry in entries)
    # A LoRA of strength -1 has no list of whole weights.
    return any(entry[0] == -entry[2] and isinstance(entry[1], list) for entry in entries)


def sliver(ease: str, most: float) -> str:
    """Return what to say of a sampling in which an ease leaves hardly any strength."""
    return Message(
        "ease is {ease}, and no step of this sampling gets more than {most:.0%} of the strength. "
        "Take more steps, or set ease to constant.",
        ease=ease,
        most=most,
    )


def other_aspect(mask: Tensor, size: Sequence[int]) -> str:
    """Return what to say of a mask ``(m, 1, h, w)`` that a latent's size does not fit."""
    return Message(
        "The mask is {wide} x {tall} and what is sampled {width} x {height} pixels, so the mask is "
        "stretched over it. If this is a tile that another node samples by itself, as Ultimate SD "
        "Upscale does, nothing tells where the tile lies: disconnect the mask there.",
        wide=mask.shape[-1],
        tall=mask.shape[-2],
        width=8 * size[1],
        height=8 * size[0],
    )


def other_prompts(applies_to: str) -> str:
    """Return what to say of a sampling without a prompt that the adapters act under."""
    return Message(
        "applies_to is {applies_to}, and this sampling had no such prompt, so the "
        "adapters never acted. At cfg 1 there is no negative prompt: raise cfg, or "
        "set applies_to to both.",
        applies_to=applies_to,
    )


def bypass(model_options: Mapping[str, Any]) -> str:
    """Return what to say of a U-Net that another node runs without the adapters."""
    other = model_options.get("model_function_wrapper")
    module = getattr(other, "__module__", None)
    culprit = (
        Message("The likely cause is {module}, which", module=module)
        if module
        else "Another node, as DeepCache,"
    )
    return Message(
        "The style's adapters never acted in this sampling, so the picture lacks its "
        "strokes and colours. {culprit} seems to run the network in a way of its own. "
        "Bypass that node.",
        culprit=culprit,
    )
