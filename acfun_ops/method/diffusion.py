"""Noise levels and weights, all told by sigma.

Latents are in the network's own scale and noise is added as ``latent + sigma * noise`` (the
variance-exploding form that ComfyUI and k-diffusion use): ``alpha_t = 1 / sqrt(1 + sigma^2)``.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["noise", "v", "velocity"]
"""What the checkpoint's network predicts: the noise, v (Salimans and Ho, 2022), or the velocity of
a rectified flow (Liu et al., 2022), whose ``(1 - t) latent + t noise`` is what the sigma
``t / (1 - t)`` stands for, scaled."""

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def add_noise(latent: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Return ``latent + sigma * noise`` for ``(b, c, h, w)`` latents."""
    return latent + sigma * noise


def prediction_weight(sigma: float, prediction: Prediction) -> float:
    """Return w_t, which turns a squared error of clean latents into one of predictions.

    For noise it is the signal-to-noise ratio 1 / sigma^2 (ACFun sec. 3.4, eq. 4); for v it is one
    more, because v is predicted with the error of the clean latent times sqrt(1 + 1 / sigma^2). A
    velocity is predicted with that error divided by the time t = sigma / (1 + sigma).
    """
    if prediction == "velocity":
        return (1 + 1 / sigma) ** 2
    snr = 1 / sigma**2
    return snr if prediction == "noise" else snr + 1


def noise_level(sigma: float) -> float:
    """Return u in [0, 1], 0 clean and 1 pure noise: the time of a cosine schedule at this sigma.

    It does not depend on a checkpoint's own schedule, so a threshold on it means the same for all.
    """
    return math.atan(sigma) * (2 / math.pi)


def sample_sigma(
    sigmas: Tensor, step: int, generator: torch.Generator, is_even: bool = True
) -> float:
    """Return the sigma of a training step from a checkpoint's ``(t,)`` schedule.

    Uniform over the schedule in the long run. Successive steps go round it from its middle by the
    golden ratio, so that any few of them cover it evenly (a low-discrepancy sequence, as in Kingma
    et al., 2021, Variational Diffusion Models): a short training sees every noise level.

    Args:
        sigmas: the schedule, on the CPU, where reading one waits for nothing.
        step: counts from 0.
        generator: moves the sigma by up to 1 / 32 of the schedule.
        is_even: False samples each step's by itself, as an ablation.
    """
    if not is_even:
        return float(sigmas[int(torch.randint(len(sigmas), (), generator=generator))])
    jitter = float(torch.rand((), generator=generator, dtype=torch.float64)) / 32
    return float(sigmas[int((0.5 + step * GOLDEN_RATIO + jitter) % 1 * len(sigmas))])


def sample_noise(shape: torch.Size, offset: float, generator: torch.Generator) -> Tensor:
    """Return noise ``(b, c, h, w)``, white except for its channel means.

    Args:
        shape: of the noise.
        offset: standard deviation of what is added to each channel mean (offset noise; Guttenberg,
            2023); 0 gives the white noise of the paper's eq. 1.
        generator: samples it, on the CPU.
    """
    white = torch.randn(shape, generator=generator)
    if offset == 0:
        return white
    return white + offset * torch.randn(*shape[:2], 1, 1, generator=generator)
