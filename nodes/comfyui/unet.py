"""ComfyUI's U-Net: the canonical names of its blocks, adapter sites and checks."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard

from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import nn

from ...acfun_ops.backbones.backbone import InsertPoint
from ...acfun_ops.method.concrete_fusion import InsertAt


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

    The insert sits at the end of the residual branch, before the skip is added (ACFun sec. 3.3).
    """
    points = {}
    for name, block in _blocks(unet):
        for number, layer in enumerate(block):
            if where == "resblock" and isinstance(layer, ResBlock):
                points[f"{name}.{number}"] = InsertPoint(layer.out_layers, layer.out_channels)
            if where == "attention" and isinstance(layer, SpatialTransformer):
                points[f"{name}.{number}"] = InsertPoint(layer.proj_out, layer.in_channels)
    return points


def checkpoint_parts(unet: UNetModel) -> list[nn.Module]:
    """Return the modules of a U-Net that are recomputed one at a time in the backward pass."""
    parts: list[nn.Module] = []
    for _, block in _blocks(unet):  # The U-Net calls a block's layers, never the block.
        for layer in block:
            # One transformer block of a deep transformer needs less memory at a time than all ten.
            is_deep = isinstance(layer, SpatialTransformer) and len(layer.transformer_blocks) > 1
            parts += layer.transformer_blocks if is_deep else [layer]
    return parts


def self_attentions(unet: UNetModel) -> list[nn.Module]:
    """Return the self-attentions of the decoder, in order."""
    modules = unet.output_blocks.modules()
    return [module.attn1 for module in modules if isinstance(module, BasicTransformerBlock)]


def _blocks(unet: UNetModel) -> Iterator[tuple[str, Iterable[Any]]]:
    """Yield the layers of each block in their order, with the block's canonical name."""
    yield from ((f"input_blocks.{n}", block) for n, block in enumerate(unet.input_blocks))
    if unet.middle_block is not None:  # KOALA-700M and SDXS have none.
        yield "middle_block", unet.middle_block
    yield from ((f"output_blocks.{n}", block) for n, block in enumerate(unet.output_blocks))
