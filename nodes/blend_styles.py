"""Blend ACFun Styles."""

from comfy_api.latest import io
from typing_extensions import override

from ..acfun_ops.style.blend import CROSSED, blend_styles, cross_styles
from ..acfun_ops.style.style import Style
from .comfyui.node_status import show_errors_on_node
from .schema import CATEGORY, StyleSocket, search_aliases

_BLEND = "blend"


class BlendACFunStyles(io.ComfyNode):
    """Makes one style of two."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ACFunBlendStyles",
            display_name="Blend ACFun Styles",
            category=CATEGORY,
            **search_aliases("mix", "merge", "interpolate"),
            description="Makes one style of two of the same family: their effects mixed by a "
            "ratio, or the deformation of the one with the strokes of the other.",
            inputs=[
                StyleSocket.Input("style_a", tooltip="The style at ratio 0."),
                StyleSocket.Input("style_b", tooltip="The style at ratio 1."),
                io.Float.Input(
                    "ratio",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of style_b: 0 is style_a, 1 is style_b, exactly. For mode blend "
                    "only.",
                ),
                io.Combo.Input(
                    "mode",
                    options=[_BLEND, CROSSED],
                    default=_BLEND,
                    tooltip="blend mixes both parts by ratio. The other takes the prompt's part "
                    "(deformation, layout) of A and strokes, colours and face structure of B.",
                ),
            ],
            outputs=[
                StyleSocket.Output(
                    "style", display_name="style", tooltip="The blend, to apply or to save."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @show_errors_on_node
    def execute(cls, style_a: Style, style_b: Style, ratio: float, mode: str) -> io.NodeOutput:
        """Blend the styles."""
        if mode == _BLEND:
            return io.NodeOutput(blend_styles(style_a, style_b, ratio))
        return io.NodeOutput(cross_styles(style_a, style_b))
