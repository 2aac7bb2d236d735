"""Apply ACFun Style."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor
from typing_extensions import override

from ..acfun_ops.images import check_mask
from ..acfun_ops.messages import join_messages
from ..acfun_ops.method.block_strengths import read_block_strengths
from ..acfun_ops.method.injection import PartStrengths
from ..acfun_ops.style.style import Style
from .comfyui.adapter_warnings import ALL_BLACK
from .comfyui.adapters import apply_adapters, check_fits
from .comfyui.node_status import NodeStatus, check_connected, show_errors_on_node, show_text
from .comfyui.prompt_offsets import Conditioning
from .comfyui.prompts import combine_masked, encode_fused, encode_plain, prompt_warnings
from .comfyui.schedule import BOTH, CONSTANT, AdapterSchedule
from .schema import (
    CATEGORY,
    StyleSocket,
    applies_to_input,
    block_strengths_input,
    ease_input,
    search_aliases,
    strength_input,
)

_NO_MASK = "outside is not used without a mask. Connect a mask that says where the style acts."


class ApplyACFunStyle(io.ComfyNode):
    """Puts both parts of a style on a model and a prompt, everywhere or inside a mask."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ACFunApplyStyle",
            display_name="Apply ACFun Style",
            category=CATEGORY,
            **search_aliases("style transfer"),
            description="Both halves of a style, the prompt's and the model's: what Apply AFun "
            "Embedding and Apply CFun Adapters do, with one strength. A mask limits all of it.",
            inputs=[
                io.Model.Input("model", tooltip="A model of the family the style was trained on."),
                io.Clip.Input("clip", tooltip="The CLIP of that family."),
                StyleSocket.Input("style", tooltip="A trained style."),
                io.String.Input(
                    "text",
                    default="A painting of a person in S* style",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="Any prompt. S* stands for the learnt style word; it is left out where "
                    "the style does not act.",
                ),
                strength_input("strength", "Of the whole style."),
                io.Float.Input(
                    "balance",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 is the abstract part only (deformation, layout, atmosphere), 1 the "
                    "concrete part only (strokes, colours, face). At 0.5 both act fully; from "
                    "there to an end the other one fades out.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the style acts, white is fully; any size. Sampling takes about "
                    "half as long again, because two prompts are drawn.",
                ),
                io.Conditioning.Input(
                    "outside",
                    optional=True,
                    tooltip="What is drawn outside the mask; without it, the text without S*. For "
                    "two people, the conditioning of the first one's Apply ACFun Style.",
                ),
                applies_to_input(),
                ease_input("over the sampling; the prompt's part does not change"),
                block_strengths_input(),
            ],
            outputs=[
                io.Model.Output(
                    "styled_model", display_name="model", tooltip="For KSampler's model."
                ),
                io.Conditioning.Output(
                    "conditioning", display_name="conditioning", tooltip="For KSampler's positive."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @show_errors_on_node
    def execute(
        cls,
        model: Any,
        clip: Any,
        style: Style,
        text: str,
        strength: float,
        balance: float,
        mask: Tensor | None = None,
        outside: Conditioning | None = None,
        applies_to: str = BOTH,
        ease: str = CONSTANT,
        block_strengths: str = "",
    ) -> io.NodeOutput:
        """Return a styled clone of the model and a styled conditioning."""
        check_connected(clip=clip)
        check_fits(style, model)
        area = None if mask is None else check_mask(mask, "mask")
        abstract, concrete = shares(strength, balance)
        warnings = [_NO_MASK] if area is None and outside is not None else []
        if area is not None and not area.any():
            warnings.append(ALL_BLACK)
            abstract = concrete = 0.0
        if abstract != 0:
            warnings.append(prompt_warnings(clip, text, style))
        node_id, text_on_node = cls.hidden.unique_id, join_messages("\n", warnings)
        parts = PartStrengths().scale(concrete)
        strengths = read_block_strengths(block_strengths, parts, style.concrete, style.facts.family)
        schedule = AdapterSchedule(ease=ease, applies_to=applies_to)
        status = NodeStatus(node_id, text_on_node)
        styled = apply_adapters(model, style, strengths, schedule, area, status)
        conditioning = _prompt(clip, text, style, abstract, area, outside)
        return io.NodeOutput(styled, conditioning, ui=show_text(node_id, text_on_node))


def shares(strength: float, balance: float) -> tuple[float, float]:
    """Return the strengths of the abstract and the concrete part.

    Args:
        strength: of the whole.
        balance: 0 is abstract only, 0.5 both fully, 1 concrete only.
    """
    return strength * min(1.0, 2 * (1 - balance)), strength * min(1.0, 2 * balance)


def _prompt(
    clip: Any,
    text: str,
    style: Style,
    strength: float,
    area: Tensor | None,
    outside: Conditioning | None,
) -> Conditioning:
    is_styled = strength != 0
    inside = (
        encode_fused(clip, text, style, strength) if is_styled else encode_plain(clip, text, style)
    )
    if area is None or not (is_styled or outside):
        return inside
    return combine_masked(inside, area[:, 0], outside or encode_plain(clip, text, style))
