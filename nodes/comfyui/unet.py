"""ComfyUI's U-Net: the canonical names of its blocks, adapter sites and checks."""

import re
from typing import TypeGuard

from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import nn

from ...acfun_ops.backbones.backbone import InsertPoint
from ...acfun_ops.method.concrete_fusion import InsertAt

_BLOCK = re.compile(r"(input_blocks\.\d+|middle_block|output_blocks\.\d+)\.\d+")
_BRANCH_END = {"resblock": "out_layers", "attention": "proj_out"}


def is_unet(module: nn.Module) -> TypeGuard[UNetModel]:
    """Tell whether a network is a U-Net that makes images from prompts."""
    is_image_unet = isinstance(module, UNetModel) and not module.use_temporal_resblocks
    return is_image_unet and context_width(module) > 0


def context_width(unet: nn.Module) -> int:
    """Return the width of the prompt embeddings that a U-Net takes, 0 if it takes none."""
    for module in unet.modules():
        if isinstance(module, SpatialTransformer):
            return int(module.transformer_blocks[0].attn2.to_k.in_features)
    return 0


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


def checkpoint_parts(unet: UNetModel) -> list[nn.Module]:
    """Return the modules of a U-Net that are recomputed one at a time in the backward pass."""
    parts: list[nn.Module] = []
    # The U-Net calls a block's layers, never the block; KOALA-700M and SDXS have no middle.
    for block in (*unet.input_blocks, unet.middle_block, *unet.output_blocks):
        for layer in block or ():
            # One transformer block of a deep transformer needs less memory at a time than all ten.
            is_deep = isinstance(layer, SpatialTransformer) and len(layer.transformer_blocks) > 1
            parts += layer.transformer_blocks if is_deep else [layer]
    return parts


def self_attentions(unet: UNetModel) -> list[nn.Module]:
    """Return the self-attentions of the decoder, in order."""
    modules = unet.output_blocks.modules()
    return [module.attn1 for module in modules if isinstance(module, BasicTransformerBlock)]
