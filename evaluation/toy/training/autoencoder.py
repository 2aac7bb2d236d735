"""The prior's autoencoder: an AutoencoderTiny, four pixels a latent, eight learned channels.

Few learned channels on a fine grid, as Stable Diffusion has them: a stroke spans several latents,
and no channel's mean and deviation say what stands inside a patch.
"""

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from .session import Course, Learner

CHANNELS = 8
PIXELS_PER_LATENT = 4
WIDTH = 48
# Small batches: in so short a training the number of steps counts.
BATCH = 8
SCALES = 3
# How far decoded strokes are asked to be as strong as the true ones, beside where they stand.
STRENGTH_WEIGHT, ENERGY_WEIGHT, UNIT_WEIGHT = 1.0, 0.02, 0.02
NOISE = 0.15


def new_autoencoder() -> AutoencoderTiny:
    """Return the autoencoder, untrained."""
    return AutoencoderTiny(
        latent_channels=CHANNELS,
        encoder_block_out_channels=(WIDTH,) * 3,
        decoder_block_out_channels=(WIDTH,) * 3,
        num_encoder_blocks=(0, 0, 4),
        num_decoder_blocks=(4, 2, 0),
    )


def pixels_of(pictures: np.ndarray) -> Tensor:
    """Return uint8 ``(n, s, s, 3)`` as ``(n, 3, s, s)`` in [-1, 1]."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def train_autoencoder(model: AutoencoderTiny, pictures: np.ndarray, course: Course) -> Learner:
    """Train on ``(n, s, s, 3)`` in uint8, until the course is over; return model and average."""
    learner = Learner(model, course, decay=0.998)
    generator = torch.Generator().manual_seed(course.seed)
    while learner.goes_on():
        chosen = torch.randint(len(pictures), (BATCH,), generator=generator).numpy()
        pixels = pixels_of(pictures[chosen])
        if torch.rand((), generator=generator) < 0.5:
            pixels = pixels.flip(3)
        strength = NOISE * torch.rand((BATCH, 1, 1, 1), generator=generator)
        noise = strength * torch.randn(
            (BATCH, CHANNELS, *(side // PIXELS_PER_LATENT for side in pixels.shape[2:])),
            generator=generator,
        )
        pixels, noise = pixels.to(course.device), noise.to(course.device)
        latents = model.encode(pixels).latents
        decoded = model.decode(latents + noise).sample
        loss = stroke_loss(decoded, pixels) + UNIT_WEIGHT * unit_loss(latents)
        learner.step(loss, BATCH)
    return learner


def stroke_loss(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Return L1 of pixels, of a Laplacian pyramid's bands, and of how strong the bands are.

    A mean of possible strokes is no stroke: so beside the bands themselves ``(n, 3, s, s)``, their
    strength around each place and their energy in the whole picture are compared.
    """
    loss = F.l1_loss(decoded, pixels)
    for scale in range(SCALES):
        smaller = [F.avg_pool2d(one, 2) for one in (decoded, pixels)]
        ours, theirs = (
            one - F.interpolate(less, scale_factor=2)
            for one, less in zip((decoded, pixels), smaller, strict=True)
        )
        loss = loss + F.l1_loss(ours, theirs)
        window = 8 >> scale
        loss = loss + STRENGTH_WEIGHT * F.l1_loss(
            F.avg_pool2d(ours.abs(), window, window // 2),
            F.avg_pool2d(theirs.abs(), window, window // 2),
        )
        energies = [(band.square().mean(dim=(1, 2, 3)) + 1e-5).log() for band in (ours, theirs)]
        loss = loss + ENERGY_WEIGHT * F.l1_loss(*energies)
        decoded, pixels = smaller
    return loss


def unit_loss(latents: Tensor) -> Tensor:
    """Return how far each channel of ``(n, c, h, w)`` is from mean 0 and deviation 1."""
    deviation, mean = torch.std_mean(latents, dim=(0, 2, 3))
    return mean.square().mean() + (deviation - 1).square().mean()


@torch.no_grad()
def set_scale(model: AutoencoderTiny, pictures: np.ndarray) -> None:
    """Set the scale and shift with which the latents of these pictures have mean 0, deviation 1."""
    latents = latents_of(model, pictures, raw=True)
    model.register_to_config(
        scaling_factor=round(1 / float(latents.std()), 4),
        shift_factor=round(float(latents.mean()), 4),
    )


@torch.no_grad()
def latents_of(model: AutoencoderTiny, pictures: np.ndarray, raw: bool = False) -> Tensor:
    """Return the latents ``(n, c, h, w)`` as the U-Net sees them, or as the encoder gives them."""
    device = next(model.parameters()).device
    batches = np.array_split(pictures, max(1, len(pictures) // 250))
    latents = [model.encode(pixels_of(part).to(device)).latents.cpu() for part in batches]
    scale, shift = model.config.scaling_factor, model.config.shift_factor
    return torch.cat(latents) if raw else (torch.cat(latents) - shift) * scale
