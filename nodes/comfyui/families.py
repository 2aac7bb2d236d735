"""ComfyUI's networks, a row for each family: what tells them apart, and how their blocks lie."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ...acfun_ops.model_families import family_of
from .unet import context_width, is_unet

Tokens = Literal["first", "behind text", "last", "grid"]
"""Where the image's tokens stand in what a module returns: before those of reference images;
behind the prompt's and before those of reference images; last, padded to a multiple; on a grid
``(b, t, h, w, c)`` of their own."""


@dataclass(frozen=True)
class Stack:
    """A list of a transformer's blocks."""

    blocks: str
    """The list's name in the network; a block's canonical name is this and its number."""
    branch: str
    """The module in a block whose output is a residual branch."""
    tokens: Tokens


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the network of a family of transformers is built."""

    network: str
    """The name of its class in ComfyUI. Not the class, which an older ComfyUI may lack."""
    kind: str
    """The name of ComfyUI's kind of the MODEL, as some families share a class."""
    stacks: tuple[Stack, ...]
    """In the order in which they run."""
    channels: str
    """The attribute that holds the width of its tokens."""
    prompt: str
    """The layer that takes the prompt's embeddings."""
    adds_in_place: bool = False
    """Whether its blocks add to their inputs in place, which spoils gradients without an error."""
    has_frames: bool = False
    """Whether its latents are ``(b, c, t, h, w)``."""


_FLUX = (
    Stack("double_blocks", "img_mlp", "first"),
    Stack("single_blocks", "linear2", "behind text"),
)
# Behind feed_forward stands a norm, which would take a scale away again.
_NEXT = (Stack("layers", "ffn_norm2", "last"),)

LAYOUTS = {
    "zimage": Layout(
        network="NextDiT", kind="ZImage", stacks=_NEXT, channels="dim", prompt="cap_embedder.1"
    ),
    "lumina2": Layout(
        network="NextDiT", kind="Lumina2", stacks=_NEXT, channels="dim", prompt="cap_embedder.1"
    ),
    "flux": Layout(
        network="Flux",
        kind="Flux",
        stacks=_FLUX,
        channels="hidden_size",
        prompt="txt_in",
        adds_in_place=True,
    ),
    "flux2": Layout(
        network="Flux",
        kind="Flux2",
        stacks=_FLUX,
        channels="hidden_size",
        prompt="txt_in",
        adds_in_place=True,
    ),
    "chroma": Layout(
        network="Chroma",
        kind="Chroma",
        stacks=_FLUX,
        channels="hidden_size",
        prompt="txt_in",
        adds_in_place=True,
    ),
    "sd3": Layout(
        network="OpenAISignatureMMDITWrapper",
        kind="SD3",
        stacks=(Stack("joint_blocks", "x_block.mlp", "first"),),
        channels="hidden_size",
        prompt="context_embedder",
    ),
    "qwen_image": Layout(
        network="QwenImageTransformer2DModel",
        kind="QwenImage",
        stacks=(Stack("transformer_blocks", "img_mlp", "first"),),
        channels="inner_dim",
        prompt="txt_in",
        has_frames=True,
    ),
    "anima": Layout(
        network="Anima",
        kind="Anima",
        stacks=(Stack("blocks", "mlp", "grid"),),
        channels="model_channels",
        prompt="blocks.0.cross_attn.k_proj",
        has_frames=True,
    ),
}
"""By the family's key, as style files have it; a U-Net's family is told by its prompts' width."""
_KINDS = {layout.kind for layout in LAYOUTS.values()}


@dataclass(frozen=True)
class Network:
    """The network of a MODEL that ACFun works on."""

    module: nn.Module
    family: str
    """A key of ``model_families.FAMILIES``."""
    layout: Layout | None
    """None for a U-Net."""

    @property
    def context_width(self) -> int:
        """Return the width of the prompt embeddings that it takes."""
        if self.layout is None:
            return context_width(self.module)
        layer: Any = self.module.get_submodule(self.layout.prompt)
        return int(layer.in_features)


def find_network(module: Any, config: Any) -> Network | None:
    """Return a MODEL's network with its family, or None if ACFun does not work on it.

    Args:
        module: ComfyUI's ``diffusion_model``.
        config: ComfyUI's ``model_config`` of the MODEL.
    """
    if is_unet(module):
        return Network(module, family_of(context_width(module)), None)
    kinds = [kind.__name__ for kind in type(config).__mro__ if kind.__name__ in _KINDS]
    for family, layout in LAYOUTS.items():
        # A class derived from one of these may see something else than latents.
        if kinds[:1] == [layout.kind] and type(module).__name__ == layout.network:
            return Network(module, family, layout)
    return None
