"""ComfyUI's U-Net: the canonical names of its blocks, adapter sites and checks."""

import re
from typing import Any, TypeGuard

import comfy.model_sampling
from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import nn

from ...acfun_ops.backbones.backbone import InsertPoint
from ...acfun_ops.errors import ACFunError
from ...acfun_ops.method.concrete_fusion import InsertAt
from ...acfun_ops.method.diffusion import Prediction
from ...acfun_ops.model_families import OTHER

_BLOCK = re.compile(r"(input_blocks\.\d+|middle_block|output_blocks\.\d+)\.\d+")
# ComfyUI's own kinds; others derive from these, and unknown ones are OTHER.
_NAMES = {
    "SD3": "SD3",
    "Flux": "Flux",
    "Flux2": "Flux 2",
    "Chroma": "Chroma",
    "ZImage": "Z-Image",
    "Lumina2": "Lumina 2",
    "QwenImage": "Qwen-Image",
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
_BRANCH_END = {"resblock": "out_layers", "attention": "proj_out"}


def unet_of(model: Any) -> UNetModel:
    """Return the U-Net of a ComfyUI MODEL.

    Raises:
        ACFunError: the model has none (Flux, SD3, ...), or one for videos or without a prompt.
    """
    unet = model.get_model_object("diffusion_model")
    if not is_unet(unet):
        raise ACFunError(
            "ACFun works on the ResBlocks of a U-Net that draws pictures from a prompt; "
            "the connected model is {name}. Connect a checkpoint of the SD1.x, SD2.x or "
            "SDXL family.",
            name=_name_of(model),
        )
    return unet


def is_unet(module: nn.Module) -> TypeGuard[UNetModel]:
    """Tell whether a network is a U-Net that makes images from prompts."""
    is_image_unet = isinstance(module, UNetModel) and not module.use_temporal_resblocks
    return is_image_unet and context_width(module) > 0


def _name_of(model: Any) -> str:
    """Return what users call a MODEL that has no U-Net for ACFun, by ComfyUI's kind of it."""
    config = getattr(model.model, "model_config", None)
    kinds = [kind.__name__ for kind in type(config).__mro__]
    return next((_NAMES[kind] for kind in kinds if kind in _NAMES), OTHER)


def context_width(unet: nn.Module) -> int:
    """Return the width of the prompt embeddings that a U-Net takes, 0 if it takes none."""
    for module in unet.modules():
        if isinstance(module, SpatialTransformer):
            return int(module.transformer_blocks[0].attn2.to_k.in_features)
    return 0


def prediction_of(model: Any) -> Prediction:
    """Return what a MODEL predicts, by its ``model_sampling``.

    Raises:
        ACFunError: it is neither the noise nor v.
    """
    # Not the class: LCM, X0 and EDM derive from these two and predict something else.
    sampling = type(model.get_model_object("model_sampling"))
    formula, kinds = sampling.calculate_denoised, comfy.model_sampling
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


def insert_points(unet: UNetModel, where: InsertAt) -> dict[str, InsertPoint]:
    """Return the blocks that inserts can hang on, by canonical name.

    The insert sits at the end of the residual branch, before the skip is added (PAPER, sec. 3.3).
    """
    points = {}
    for name, module in unet.named_modules():
        if _BLOCK.fullmatch(name):
            if where == "resblock" and isinstance(module, ResBlock):
                points[name] = InsertPoint(module.out_layers, module.out_channels)
            if where == "attention" and isinstance(module, SpatialTransformer):
                points[name] = InsertPoint(module.proj_out, module.in_channels)
    return points


def insert_modules(unet: nn.Module, blocks: list[str], where: InsertAt) -> dict[str, nn.Module]:
    """Return the modules whose outputs inserts change, for block names known to exist."""
    return {block: unet.get_submodule(f"{block}.{_BRANCH_END[where]}") for block in blocks}


def self_attentions(unet: UNetModel) -> list[nn.Module]:
    """Return the self-attentions of the decoder, in order."""
    modules = unet.output_blocks.modules()
    return [module.attn1 for module in modules if isinstance(module, BasicTransformerBlock)]
