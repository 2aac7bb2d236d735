"""Apply CFun Adapters."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor
from typing_extensions import override

from ..acfun_ops.images import check_mask
from ..acfun_ops.messages import join_messages
from ..acfun_ops.method.block_strengths import read_block_strengths
from ..acfun_ops.method.injection import PartStrengths, parts_of
from ..acfun_ops.style.style import Style
from .comfyui.adapter_warnings import ALL_BLACK, NO_MIDDLE
from .comfyui.adapters import apply_adapters, check_fits
from .comfyui.node_status import NodeStatus, show_errors_on_node, show_text
from .comfyui.schedule import BOTH, CONSTANT, AdapterSchedule
from .schema import (
    CATEGORY,
    StyleSocket,
    applies_to_input,
    block_strengths_input,
    ease_input,
    mark,
    search_aliases,
    strength_input,
)

_NO_RANGE = (
    "start_percent equals end_percent, so the adapters act at one step at most. Set end_percent "
    "above it."
)


class ApplyCFunAdapters(io.ComfyNode):
    """Puts a style's concrete part on a model."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ACFunApplyAdapters",
            display_name="Apply CFun Adapters",
            category=CATEGORY,
            **search_aliases("style model", "LoRA"),
            description="The model's half of a style (Apply AFun Embedding is the prompt's; Apply "
            "ACFun Style is both). Puts the concrete part on a model: strokes and texture "
            "(encoder), structure of the face and colours (decoder). Chain two for two styles.",
            inputs=[
                io.Model.Input("model", tooltip="A model of the family the style was trained on."),
                StyleSocket.Input("style", tooltip="A trained style."),
                strength_input("strength", "Overall strength."),
                strength_input("encoder_strength", "Strokes and texture."),
                mark(strength_input("middle_strength", "The U-Net's middle."), advanced=True),
                strength_input("decoder_strength", "Structure and pose of the face, and colours."),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Share of sampling after which the adapters act, 0 to 1.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Share of sampling after which the adapters stop, 0 to 1.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the adapters act, white is fully; any size.",
                ),
                applies_to_input(),
                ease_input("from start_percent to end_percent"),
                block_strengths_input(),
            ],
            outputs=[
                io.Model.Output(
                    "styled_model",
                    display_name="model",
                    tooltip="For KSampler. Checkpoints saved and LoRAs extracted from it lack the "
                    "style; model merges keep it from model1 only.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @show_errors_on_node
    def execute(
        cls,
        model: Any,
        style: Style,
        strength: float,
        encoder_strength: float,
        middle_strength: float,
        decoder_strength: float,
        start_percent: float,
        end_percent: float,
        mask: Tensor | None = None,
        applies_to: str = BOTH,
        ease: str = CONSTANT,
        block_strengths: str = "",
    ) -> io.NodeOutput:
        """Return a clone with one more wrapper, or the very model if nothing would act."""
        check_fits(style, model)
        schedule = AdapterSchedule(
            start=start_percent, end=end_percent, ease=ease, applies_to=applies_to
        )
        parts = PartStrengths(
            encoder=encoder_strength, middle=middle_strength, decoder=decoder_strength
        ).scale(strength)
        strengths = read_block_strengths(block_strengths, parts, style.concrete, style.facts.family)
        area = None if mask is None else check_mask(mask, "mask")
        warnings, has_effect = [], any(strengths.values())
        if area is not None and not area.any() and has_effect:
            warnings.append(ALL_BLACK)
        if start_percent == end_percent and has_effect:
            warnings.append(_NO_RANGE)
        is_middle_alone = parts.middle and not (parts.encoder or parts.decoder)
        lacks_middle = "middle" not in parts_of(style.concrete).values()
        if lacks_middle and (middle_strength != 1 or is_middle_alone):
            warnings.append(NO_MIDDLE)
        node_id, text = cls.hidden.unique_id, join_messages("\n", warnings)
        styled = apply_adapters(model, style, strengths, schedule, area, NodeStatus(node_id, text))
        return io.NodeOutput(styled, ui=show_text(node_id, text))
