"""Random weights that keep a network's numbers in range, so that half precision can run it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

StateDict = dict[str, Tensor]


def fill(
    layout: Mapping[str, Tensor], seed: int, dtype: torch.dtype, device: str = "cpu"
) -> StateDict:
    """Return the layout with each meta tensor drawn from the seed, in the order of the names.

    Tensors that are not on the meta device keep their values. Floating point becomes `dtype`. All
    is on the CPU; `device` is where numbers are drawn, which a GPU does far faster.
    """
    generator = torch.Generator(device).manual_seed(seed)
    state: StateDict = {}
    for name in sorted(layout):
        tensor = layout[name]
        if tensor.is_meta:
            with torch.device(device):
                tensor = _initial_value(name, tensor.shape, generator)
        state[name] = (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu()
    return state


def _initial_value(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return norms as the identity, biases as zero, and other weights scaled to unit output."""
    leaf = name.rpartition(".")[2]
    if leaf == "logit_scale":
        return torch.tensor(4.6055)  # As in the released CLIP models; no node reads it.
    if name.endswith("taesd_decoder.19.bias"):
        return torch.full(shape, 0.5)  # Mid-grey: the decoder's pictures lie in [0, 1].
    if leaf.endswith("bias"):
        return torch.zeros(shape)
    if len(shape) == 1 and leaf in ("weight", "scale"):
        return torch.ones(shape)
    if "embedding" in leaf or name.endswith("embedding.weight"):
        std = 0.02  # As in the released CLIP models.
    else:
        std = _output_gain(name) * (shape[0] / shape.numel()) ** 0.5
    return torch.empty(shape).normal_(0.0, std, generator=generator)


def _output_gain(name: str) -> float:
    """Return the gain of a weight: small for what is zero or small in a trained network."""
    if "zero_convs." in name or "middle_block_out." in name:
        return 0.02
    if name.endswith(("diffusion_model.out.2.weight", "lora_up.weight")):
        return 0.1
    if name.endswith("taesd_encoder.14.weight"):
        return 3.0  # Brings the latents of a picture to about unit variance.
    return 1.0


def predict_input_as_noise(state: StateDict) -> None:
    """Make the random U-Net predict its normalised input as the noise, plus its random output.

    A trained network does so at high noise. Without it, sampling adds the whole starting noise
    to the latent and the decoder saturates. Channels 0 to 3 carry the input and 4 to 7 its
    negative from the first convolution over the last skip connection to the last convolution,
    where silu(a) - silu(-a) = a.
    """
    prefix = "model.diffusion_model."
    blocks = {
        int(name.split(".")[3]) for name in state if name.startswith(f"{prefix}output_blocks")
    }
    last = f"{prefix}output_blocks.{max(blocks)}"
    first = state[f"{prefix}input_blocks.0.0.weight"]
    skip = state[f"{last}.0.skip_connection.weight"]
    out = state[f"{prefix}out.2.weight"]
    width = first.shape[0]
    group = width // 32  # The channels that the last normalisation handles together.

    for name in (f"{last}.0.out_layers.3.weight", f"{last}.1.proj_out.weight"):
        if name in state:  # SDXL has no transformer in its last block.
            state[name][:group] = 0
    first[:group] = 0
    skip[:group] = 0
    for channel in range(group):
        skip[channel, width + channel] = 1
    for channel in range(4):
        first[channel, channel, 1, 1] = 1
        first[4 + channel, channel, 1, 1] = -1
        out[channel, channel, 1, 1] += (8 / group) ** 0.5
        out[channel, 4 + channel, 1, 1] -= (8 / group) ** 0.5
