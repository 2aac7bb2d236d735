"""A diffusers U-Net under the canonical LDM names of its blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from ..errors import ACFunError
from ..method.concrete_fusion import InsertAt
from ..method.diffusion import Prediction
from ..model_families import OTHER
from .backbone import InsertPoint

# Other kinds of blocks have ResBlocks in places that the LDM layout has no name for.
_BLOCKS = {
    "DownBlock2D",
    "CrossAttnDownBlock2D",
    "UNetMidBlock2DCrossAttn",
    "UpBlock2D",
    "CrossAttnUpBlock2D",
}


def check_unet(unet: Any) -> None:
    """Refuse a U-Net without the ResBlocks of the SD1.x, SD2.x and SDXL family.

    Raises:
        ACFunError: it is another kind of network, or has another kind of block.
    """
    known = isinstance(unet, UNet2DConditionModel)
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks] if known else []
    # KOALA-700M and SDXS have no middle.
    foreign = sorted({type(block).__name__ for block in blocks if block is not None} - _BLOCKS)
    if not blocks or foreign:
        raise ACFunError(
            f"ACFun works on the ResBlocks of a U-Net; this pipeline is of {OTHER}"
            f"{' (with ' + ', '.join(foreign) + ')' if foreign else ''}. Use a pipeline of the "
            "SD1.x, SD2.x or SDXL family."
        )


def check_widths(unet: Any, text_width: int, latent_channels: int) -> None:
    """Refuse a U-Net that does not fit its pipeline's text encoders and VAE.

    Raises:
        ACFunError: one of the widths differs.
    """
    if text_width != unet.config.cross_attention_dim:
        raise ACFunError(
            "Text encoders and U-Net are of different models (embeddings "
            f"{text_width} wide, the U-Net takes {unet.config.cross_attention_dim}). Use a whole "
            "pipeline of one family."
        )
    if latent_channels != unet.config.in_channels:
        raise ACFunError(
            "VAE and U-Net are of different models, or the U-Net is for inpainting (latents of "
            f"{latent_channels} channels, the U-Net takes {unet.config.in_channels}). Use a "
            "text-to-image pipeline, and no inpainting one."
        )


def prediction_of(scheduler: Any) -> Prediction:
    """Return what a pipeline's U-Net predicts, as its scheduler has it.

    Raises:
        ACFunError: it is neither the noise nor v.
    """
    kinds: dict[str, Prediction] = {"epsilon": "noise", "v_prediction": "v"}
    kind = scheduler.config.prediction_type
    if kind not in kinds:
        raise ACFunError(
            f"The pipeline's scheduler predicts '{kind}'; expected epsilon or v_prediction. Use an "
            "SD1.x, SD2.x or SDXL pipeline."
        )
    return kinds[kind]


def insert_points(unet: Any, where: InsertAt) -> dict[str, InsertPoint]:
    """Return the blocks that inserts can hang on, by canonical name.

    The insert sits at the end of the residual branch, before the skip is added (ACFun sec. 3.3).
    """
    points = {}
    for block, resnet, attention in _blocks(unet):
        if where == "resblock":
            points[f"{block}.0"] = InsertPoint(resnet.conv2, resnet.out_channels)
        elif attention is not None:
            points[f"{block}.1"] = InsertPoint(attention.proj_out, attention.in_channels)
    if where == "resblock" and unet.mid_block is not None:
        last = unet.mid_block.resnets[1]
        points["middle_block.2"] = InsertPoint(last.conv2, last.out_channels)
    return points


def self_attentions(unet: Any) -> list[nn.Module]:
    """Return the self-attentions of the decoder, in order."""
    modules = unet.up_blocks.modules()
    return [module.attn1 for module in modules if isinstance(module, BasicTransformerBlock)]


@contextmanager
def checkpoint_blocks(unet: Any) -> Iterator[None]:
    """Have diffusers recompute ResBlocks and transformer blocks in the backward pass meanwhile.

    A U-Net whose owner has turned that on already is left as it is.
    """
    if unet.is_gradient_checkpointing:
        yield
        return
    unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        unet.disable_gradient_checkpointing()


def _blocks(unet: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the LDM block, its ResBlock and the attention after it, None if there is none."""
    index = 1  # Block 0 is the first convolution.
    for block in unet.down_blocks:
        for resnet, attention in _layers(block):
            yield f"input_blocks.{index}", resnet, attention
            index += 1
        index += bool(block.downsamplers)
    if unet.mid_block is not None:
        yield "middle_block", unet.mid_block.resnets[0], unet.mid_block.attentions[0]
    index = 0
    for block in unet.up_blocks:
        for resnet, attention in _layers(block):
            yield f"output_blocks.{index}", resnet, attention
            index += 1


def _layers(block: Any) -> Iterator[tuple[Any, Any]]:
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    return zip(block.resnets, attentions, strict=True)
