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


def draw_sigma(sigmas: Tensor, generator: torch.Generator) -> Tensor:
    """Return one sigma, a scalar, drawn uniformly from a checkpoint's ``(t,)`` schedule."""
    index = torch.randint(len(sigmas), (1,), generator=generator)
    return sigmas[index.to(sigmas.device)][0]


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
