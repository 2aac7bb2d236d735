"""The prior's autoencoder: whitened patch components in, a learnt decoder out.

An AutoencoderDC whose encoder is set so that it is exactly a projection of each 8 x 8 patch on its
first principal components, scaled to unit variance: its pixel unshuffles cut the patches, its last
layer projects, and its blocks add nothing. The decoder, of pixel shuffles, is trained.
"""

import numpy as np
import torch
from diffusers import AutoencoderDC
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

COMPONENTS = 24
PATCH_VALUES = 192
BATCH = 16


def new_autoencoder() -> AutoencoderDC:
    """Return the autoencoder, untrained."""
    return AutoencoderDC(
        latent_channels=COMPONENTS,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(3, 12, 48, PATCH_VALUES),
        decoder_block_out_channels=(3, 24, 48, 96),
        encoder_layers_per_block=(0, 1, 1, 0),
        decoder_layers_per_block=(0, 2, 2, 0),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        upsample_block_type="pixel_shuffle",
        downsample_block_type="pixel_unshuffle",
        scaling_factor=1.0,
    )


@torch.no_grad()
def set_encoder(model: AutoencoderDC, pictures: np.ndarray) -> float:
    """Set the encoder to whitened components of ``(n, s, s, 3)``; return their variance's share."""
    encoder = model.encoder
    for weight in encoder.parameters():
        weight.zero_()
    for channel in range(3):
        encoder.conv_in.conv.weight[channel, channel, 1, 1] = 1
    values = torch.cat([_patches(model, part) for part in np.array_split(pictures, 20)]).double()
    mean = values.mean(dim=0)
    variances, axes = torch.linalg.eigh(torch.cov(values.T))
    top = axes[:, -COMPONENTS:].flip(1) / variances[-COMPONENTS:].flip(0).sqrt()
    # An axis has no sign of its own: its largest value is made positive.
    top = top * top.gather(0, top.abs().argmax(dim=0, keepdim=True)).sign()
    weight = top.T.float()
    group = PATCH_VALUES // COMPONENTS
    # The encoder's own shortcut adds the mean of each group of values: it is taken off here.
    for component in range(COMPONENTS):
        weight[component, component * group : (component + 1) * group] -= 1 / group
    encoder.conv_out.weight[:, :, 1, 1] = weight
    encoder.conv_out.bias.copy_(-(mean @ top).float())
    return float(variances[-COMPONENTS:].sum() / variances.sum())


@torch.no_grad()
def component_deviations(model: AutoencoderDC) -> Tensor:
    """Return each component's standard deviation in pixels ``(c,)``, which whitening took away."""
    weight = model.encoder.conv_out.weight[:, :, 1, 1].clone()
    group = PATCH_VALUES // COMPONENTS
    for component in range(COMPONENTS):
        weight[component, component * group : (component + 1) * group] += 1 / group
    return weight.norm(dim=1).reciprocal()


def _patches(model: AutoencoderDC, pictures: np.ndarray) -> Tensor:
    """Return the values of every 8 x 8 patch ``(p, 192)``, as the last layer sees them."""
    hidden = model.encoder.conv_in(pixels_of(pictures))
    for block in model.encoder.down_blocks:
        hidden = block(hidden)
    return rearrange(hidden, "b c h w -> (b h w) c")


def pixels_of(pictures: np.ndarray) -> Tensor:
    """Return uint8 ``(n, s, s, 3)`` as ``(n, 3, s, s)`` in [-1, 1]."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def train_decoder(model: AutoencoderDC, pictures: np.ndarray, steps: int, seed: int) -> float:
    """Train the decoder on L1 of pixels and of their differences; return the last mean L1."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    recent: list[float] = []
    for _ in tqdm(range(steps), "decoder", mininterval=20):
        chosen = torch.randint(len(pictures), (BATCH,), generator=generator).numpy()
        pixels = pixels_of(pictures[chosen])
        with torch.no_grad():
            latents = model.encode(pixels).latent
            strength = 0.2 * torch.rand((len(latents), 1, 1, 1), generator=generator)
            latents += strength * torch.randn(latents.shape, generator=generator)
        decoded = model.decode(latents).sample
        error = F.l1_loss(decoded, pixels)
        slopes = sum(F.l1_loss(decoded.diff(dim=dim), pixels.diff(dim=dim)) for dim in (2, 3))
        optimizer.zero_grad()
        (error + slopes).backward()
        optimizer.step()
        schedule.step()
        recent = [*recent[-99:], float(error.detach())]
    return sum(recent) / len(recent)
