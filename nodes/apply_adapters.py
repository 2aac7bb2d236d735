"""Apply AFun Embedding and Apply CFun Adapters."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..acfun_ops.images import check_mask
from ..acfun_ops.method.concrete_fusion import PartStrengths
from ..acfun_ops.style.style import Style
from .comfyui.adapters import ALL_BLACK, adapted, check_fits
from .comfyui.node_status import SamplingNotices
from .comfyui.prompts import encode_fused, missing_word
from .comfyui.schedule import APPLIES_TO, BOTH, CONSTANT, EASES, Acting, Timing
from .schema import (
    CATEGORY,
    SEARCH,
    StyleSocket,
    check_connected,
    speaks_for_itself,
    told,
)

_NO_RANGE = (
    "start_percent equals end_percent, so the adapters act at one step at most. Set end_percent "
    "above it."
)


def strength_input(name: str, tooltip: str) -> io.Float.Input:
    """Return an input for a strength; ``tooltip`` says of what."""
    return io.Float.Input(
        name, default=1.0, min=0.0, max=3.0, step=0.05, tooltip=f"{tooltip} 0 is off, 1 as trained."
    )


def applies_to_input() -> io.Combo.Input:
    """Return the input that says under which prompts the adapters act."""
    return io.Combo.Input(
        "applies_to",
        options=list(APPLIES_TO),
        default=BOTH,
        optional=True,
        tooltip="Under which prompts the adapters act. Positive only draws the style stronger, "
        "since guidance then pushes away from the plain picture.",
    )


def ease_input(span: str) -> io.Combo.Input:
    """Return the input that sets the adapters' strength over a span of sampling."""
    return io.Combo.Input(
        "ease",
        options=list(EASES),
        default=CONSTANT,
        optional=True,
        tooltip=f"The adapters' strength {span}: constant, growing from 0, falling to 0, or "
        "growing to the middle and falling again.",
    )


class ApplyAFunEmbedding(io.ComfyNode):
    """Encodes a prompt and fuses it with a style's abstract part."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="ACFunApplyEmbedding",
            display_name="Apply AFun Embedding",
            category=CATEGORY,
            **SEARCH,
            description="Encodes a prompt as CLIP Text Encode does and fuses it with the abstract "
            "part of a style: deformation, layout, atmosphere.",
            inputs=[
                StyleSocket.Input("style", tooltip="A trained style."),
                io.Clip.Input("clip", tooltip="The CLIP of the family the style was trained on."),
                io.String.Input(
                    "text",
                    default="A painting of a person in S* style",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="Any prompt. S* stands for the learnt style word; it may be anywhere, "
                    "several times or left out. (word:1.2) and embedding:name work as ever.",
                ),
                strength_input("strength", "How much of the style's abstract part is fused in."),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    display_name="conditioning",
                    tooltip="Connect it where CLIP Text Encode would go.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @speaks_for_itself
    def execute(cls, style: Style, clip: Any, text: str, strength: float) -> io.NodeOutput:
        """Encode, then fuse every part of the conditioning."""
        check_connected(clip=clip)
        shown = told(cls.hidden.unique_id, missing_word(text, style.facts.pseudo_word))
        return io.NodeOutput(encode_fused(clip, text, style, strength), ui=shown)


class ApplyCFunAdapters(io.ComfyNode):
    """Puts a style's concrete part on a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="ACFunApplyAdapters",
            display_name="Apply CFun Adapters",
            category=CATEGORY,
            **SEARCH,
            description="Puts the concrete part of a style on a model: strokes, colours, texture "
            "(encoder) and the structure of the face (decoder). Chain two for two styles.",
            inputs=[
                io.Model.Input("model", tooltip="A model of the family the style was trained on."),
                StyleSocket.Input("style", tooltip="A trained style."),
                strength_input("strength", "Overall strength."),
                strength_input("encoder_strength", "Strokes, colours and texture."),
                strength_input("middle_strength", "The U-Net's middle."),
                strength_input("decoder_strength", "Structure and pose of the face."),
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
            ],
            outputs=[
                io.Model.Output(
                    "styled_model",
                    display_name="model",
                    tooltip="For KSampler. Checkpoints saved from it lack the style; model merges "
                    "keep it from model1 only.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @speaks_for_itself
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
    ) -> io.NodeOutput:
        """Return a clone with one more wrapper, or the very model if nothing would act."""
        check_fits(style, model)
        timing = Timing(start=start_percent, end=end_percent, ease=ease)
        strengths = PartStrengths(
            encoder=encoder_strength, middle=middle_strength, decoder=decoder_strength
        ).scaled(strength)
        area = None if mask is None else check_mask(mask, "mask")
        notices = []
        if area is not None and not area.any() and strengths.any():
            notices.append(ALL_BLACK)
        if start_percent == end_percent and strengths.any():
            notices.append(_NO_RANGE)
        node_id, text = cls.hidden.unique_id, "\n".join(notices)
        acting = Acting(timing=timing, applies_to=applies_to)
        later = SamplingNotices(node_id, text)
        styled = adapted(model, style, strengths, acting, area, later)
        return io.NodeOutput(styled, ui=told(node_id, text))
