"""Apply AFun Embedding."""

from typing import Any

from comfy_api.latest import io
from typing_extensions import override

from ..acfun_ops.style.style import Style
from .comfyui.node_status import check_connected, show_errors_on_node, show_text
from .comfyui.prompts import encode_fused, prompt_warnings
from .schema import CATEGORY, StyleSocket, search_aliases, strength_input


class ApplyAFunEmbedding(io.ComfyNode):
    """Encodes a prompt and fuses it with a style's abstract part."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ACFunApplyEmbedding",
            display_name="Apply AFun Embedding",
            category=CATEGORY,
            **search_aliases("style prompt", "CLIP Text Encode"),
            description="The prompt's half of a style (Apply CFun Adapters is the model's; Apply "
            "ACFun Style is both). Encodes a prompt as CLIP Text Encode does and fuses it with the "
            "abstract part: deformation, layout, atmosphere.",
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
    @show_errors_on_node
    def execute(cls, style: Style, clip: Any, text: str, strength: float) -> io.NodeOutput:
        """Encode, then fuse every part of the conditioning."""
        check_connected(clip=clip)
        shown = show_text(cls.hidden.unique_id, prompt_warnings(clip, text, style))
        return io.NodeOutput(encode_fused(clip, text, style, strength), ui=shown)
