"""Apply AFun Embedding and Apply CFun Adapters."""

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.images import check_mask
from ..acfun_ops.method.concrete_fusion import PartStrengths
from ..acfun_ops.style.style import Style
from .adapters import AdapterWrapper, check_fits
from .pseudo_word import tokenize
from .sockets import CATEGORY, SEARCH, StyleSocket, speaks_for_itself, tell


def _strength(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(
        name, default=1.0, min=0.0, max=3.0, step=0.05, tooltip=f"{tooltip} 0 is off, 1 as trained."
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
                _strength("strength", "How much of the style's abstract part is fused in."),
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
        if clip is None:
            raise ACFunError(
                "The socket clip brings nothing: the checkpoint may be a U-Net alone. "
                "Connect a CLIP."
            )
        tokens = tokenize(clip, text, style.facts.pseudo_word, style.vectors)
        conditioning = clip.encode_from_tokens_scheduled(tokens)
        if strength == 0:
            return io.NodeOutput(conditioning)
        fusion = style.abstract_fusion()

        def fused(embedding: Tensor) -> Tensor:
            device = embedding.device
            return fusion.to(device)(embedding, style.style_tokens.to(device), strength)

        return io.NodeOutput([[fused(embedding), extra] for embedding, extra in conditioning])


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
                _strength("strength", "Overall strength."),
                _strength("encoder_strength", "Strokes, colours and texture."),
                _strength("middle_strength", "The U-Net's middle."),
                _strength("decoder_strength", "Structure and pose of the face."),
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
            ],
            outputs=[
                io.Model.Output("styled_model", display_name="model", tooltip="For KSampler.")
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
    ) -> io.NodeOutput:
        """Return a clone with one more wrapper, or the very model if nothing would act."""
        if model is None:
            raise ACFunError("The socket model brings nothing. Connect a checkpoint's MODEL.")
        if start_percent > end_percent:
            raise ACFunError(
                f"start_percent ({start_percent:g}) is after end_percent ({end_percent:g}), so the "
                "adapters would never act. Swap them."
            )
        check_fits(style, model)
        strengths = PartStrengths(
            encoder=encoder_strength, middle=middle_strength, decoder=decoder_strength
        ).scaled(strength)
        if not strengths.any():
            return io.NodeOutput(model)
        area = None if mask is None else check_mask(mask, "mask")
        node_id = cls.hidden.unique_id
        if area is not None and not area.any():
            text = "The mask is all black: the style does not act. Paint white where it shall."
            tell(node_id, text)
            return io.NodeOutput(model, ui=ui.PreviewText(text))
        styled = model.clone()
        percents = (start_percent, end_percent)
        AdapterWrapper(style, strengths, percents, area, node_id).put_on(styled)
        return io.NodeOutput(styled)
