"""Noise levels, weights and a small sampler, all told by sigma.

Latents are in the U-Net's own scale and noise is added as ``latent + sigma * noise`` (the
variance-exploding form that ComfyUI and k-diffusion use): ``alpha_t = 1 / sqrt(1 + sigma^2)``.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["noise", "v"]
"""What the checkpoint's U-Net predicts: the noise, or v (Salimans and Ho, 2022)."""

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
NOISE_OFFSET = 0.3


def add_noise(latent: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return ``latent + sigma * noise`` for ``(b, c, h, w)`` latents and a scalar sigma."""
    return latent + sigma * noise


def prediction_weight(sigma: Tensor, prediction: Prediction) -> Tensor:
    """Return w_t, which turns a squared error of clean latents into one of predictions.

    For noise it is the signal-to-noise ratio 1 / sigma^2 (ACFun sec. 3.4, eq. 4); for v it is one
    more, because v is predicted with the error of the clean latent times sqrt(1 + 1 / sigma^2).
    """
    snr = sigma.square().reciprocal()
    return snr if prediction == "noise" else snr + 1


def noise_level(sigma: Tensor) -> Tensor:
    """Return u in [0, 1], 0 clean and 1 pure noise: the time of a cosine schedule at this sigma.

    It does not depend on a checkpoint's own schedule, so a threshold on it means the same for all.
    """
    return torch.atan(sigma) * (2 / math.pi)


def draw_sigma(sigmas: Tensor, step: int, generator: torch.Generator) -> Tensor:
    """Return the sigma of a training step, a scalar, from a checkpoint's ``(t,)`` schedule.

    Uniform over the schedule in the long run. Successive steps go round it from its middle by the
    golden ratio, so that any few of them cover it evenly (a low-discrepancy sequence, as in Kingma
    et al., 2021, Variational Diffusion Models): a short training sees every noise level.

    Args:
        sigmas: the schedule.
        step: counts from 0.
        generator: moves the sigma by up to 1 / 32 of the schedule.
    """
    jitter = float(torch.rand((), generator=generator, dtype=torch.float64)) / 32
    return sigmas[int((0.5 + step * GOLDEN_RATIO + jitter) % 1 * len(sigmas))]


def draw_noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return noise ``(b, c, h, w)`` whose channel means vary more than those of white noise.

    What starts pure noise is not quite without its own mean, which would tint each seed's picture;
    with means that stray in training (offset noise; Guttenberg, 2023) a style learns to set them.
    """
    white = torch.randn(shape, generator=generator)
    return white + NOISE_OFFSET * torch.randn(*shape[:2], 1, 1, generator=generator)


def sampling_sigmas(sigmas: Tensor, steps: int) -> Tensor:
    """Return ``(steps + 1,)`` falling sigmas, evenly spaced in time and ending in 0.

    Args:
        sigmas: a checkpoint's rising ``(t,)`` schedule.
        steps: number of sampling steps, 1 or more.
    """
    times = torch.linspace(len(sigmas) - 1, 0, steps + 1, device=sigmas.device)[:-1]
    return torch.cat([sigmas[times.round().long()], sigmas.new_zeros(1)])


@torch.no_grad()
def sample_euler(
    denoise: Callable[[Tensor, Tensor], Tensor], noise: Tensor, sigmas: Tensor
) -> Tensor:
    """Draw latents from noise with Euler steps (Karras et al., 2022, algorithm 2, no churn).

    Args:
        denoise: maps noisy latents ``(b, c, h, w)`` and a scalar sigma to clean latents.
        noise: ``(b, c, h, w)``, standard normal.
        sigmas: falling, ending in 0, from :func:`sampling_sigmas`.

    Returns:
        Clean latents ``(b, c, h, w)``.
    """
    latent = noise * torch.sqrt(1 + sigmas[0] ** 2)
    for sigma, next_sigma in pairwise(sigmas):
        slope = (latent - denoise(latent, sigma)) / sigma
        latent = latent + slope * (next_sigma - sigma)
    return latent
