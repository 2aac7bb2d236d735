"""ComfyUI's networks, a row for each family: what tells them apart, and how their blocks lie.

Whoever adds a family adds a row here, one in ``acfun_ops/model_families.py``, and a tiny model to
``tests/nodes/support/tiny_transformers.py``.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import comfy.model_sampling

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.method.diffusion import Prediction
from ...acfun_ops.model_families import FAMILIES, OTHER, family_of
from .unet import context_width, is_unet

Tokens = Literal["first", "behind", "last", "grid"]
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


# Of kinds that no row is for; others derive from these, and unknown ones are OTHER.
_NAMES = {
    "HiDream": "HiDream",
    "AuraFlow": "AuraFlow",
    "PixArtAlpha": "PixArt",
    "HunyuanDiT": "Hunyuan-DiT",
    "HunyuanVideo": "Hunyuan Video",
    "WAN21_T2V": "Wan",
    "LTXV": "LTX Video",
    "Stable_Cascade_C": "Stable Cascade",
    "SVD_img2vid": "Stable Video Diffusion",
}
# Behind feed_forward stands a norm, which would take a scale away again.
_LUMINA = Layout(
    network="NextDiT",
    kind="Lumina2",
    stacks=(Stack("layers", "ffn_norm2", "last"),),
    channels="dim",
    prompt="cap_embedder.1",
)
_FLUX = Layout(
    network="Flux",
    kind="Flux",
    stacks=(
        Stack("double_blocks", "img_mlp", "first"),
        Stack("single_blocks", "linear2", "behind"),
    ),
    channels="hidden_size",
    prompt="txt_in",
    adds_in_place=True,
)

LAYOUTS = {
    "zimage": replace(_LUMINA, kind="ZImage"),
    "lumina2": _LUMINA,
    "flux": _FLUX,
    "flux2": replace(_FLUX, kind="Flux2"),
    "chroma": replace(_FLUX, network="Chroma", kind="Chroma"),
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
_KINDS = {layout.kind: family for family, layout in LAYOUTS.items()}


@dataclass(frozen=True)
class Network:
    """The network of a MODEL that ACFun works on."""

    module: Any
    family: str
    """A key of ``model_families.FAMILIES``."""
    layout: Layout | None
    """None for a U-Net."""

    @property
    def context_width(self) -> int:
        """Return the width of the prompt embeddings that it takes."""
        if self.layout is None:
            return context_width(self.module)
        return int(self.module.get_submodule(self.layout.prompt).in_features)


def network_of(model: Any) -> Network:
    """Return the network of a ComfyUI MODEL.

    Raises:
        ACFunError: it is of none of the families, or one for videos or without a prompt.
    """
    config = getattr(model.model, "model_config", None)
    network = find_network(model.get_model_object("diffusion_model"), config)
    if network is None:
        raise ACFunError(
            "ACFun works on image models of the SD1.x, SD2.x, SDXL, {families} families; the "
            "connected model is {name}. Connect a checkpoint of one of these families.",
            families=", ".join(FAMILIES[family].name for family in LAYOUTS),
            name=_name_of(config),
        )
    return network


def find_network(module: Any, config: Any) -> Network | None:
    """Return a MODEL's network with its family, or None if ACFun does not work on it.

    Args:
        module: ComfyUI's ``diffusion_model``.
        config: ComfyUI's ``model_config`` of the MODEL.
    """
    if is_unet(module):
        return Network(module, family_of(context_width(module)), None)
    family = next(filter(None, map(_KINDS.get, _kinds_of(config))), "")
    layout = LAYOUTS.get(family)
    # A class derived from one of these may see something else than latents.
    if layout is None or type(module).__name__ != layout.network:
        return None
    return Network(module, family, layout)


def _name_of(config: Any) -> str:
    """Return what users call a MODEL that has no network for ACFun, by ComfyUI's kind of it."""
    names = _NAMES | {kind: FAMILIES[family].name for kind, family in _KINDS.items()}
    return next((names[kind] for kind in _kinds_of(config) if kind in names), OTHER)


def _kinds_of(config: Any) -> list[str]:
    return [kind.__name__ for kind in type(config).__mro__]


def prediction_of(model: Any) -> Prediction:
    """Return what a MODEL predicts, by its ``model_sampling``.

    Raises:
        ACFunError: a U-Net predicts neither the noise nor v, or a transformer no velocity.
    """
    # Not the class: LCM, X0 and EDM derive from these and predict something else.
    sampling = type(model.get_model_object("model_sampling"))
    formula, kinds = sampling.calculate_denoised, comfy.model_sampling
    if network_of(model).layout is not None:
        if formula is not kinds.CONST.calculate_denoised:
            raise ACFunError(
                "The model does not predict a velocity, as after a ModelSampling node for LCM or "
                "x0. Bypass that node."
            )
        return "velocity"
    if formula is kinds.EPS.calculate_denoised:
        return "noise"
    if formula is kinds.V_PREDICTION.calculate_denoised:
        return "v"
    if "model_sampling" not in model.object_patches:
        raise ACFunError(
            "This checkpoint predicts neither noise (eps) nor v, as those of EDM kind, such as "
            "Playground v2.5. Connect another SD1.x, SD2.x or SDXL checkpoint."
        )
    raise ACFunError(
        "The model predicts neither noise (eps) nor v, as after a ModelSampling node for LCM, x0 "
        "or EDM. Connect an SD1.x, SD2.x or SDXL checkpoint, without a sampling patch."
    )
