"""The Euler sampler on a Backbone, with guidance and a callback at each step."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ..backbones.backbone import Backbone, Context


@dataclass(frozen=True)
class Guidance:
    """Conditional and unconditional context, and the guidance scale."""

    prompt: Context
    """Conditional."""
    plain: Context | None = None
    """Unconditional; None for no guidance."""
    scale: float = 1.0
    """Of classifier-free guidance: 0 is ``plain`` alone, 1 ``prompt`` alone."""


class StoppedError(Exception):
    """A sampling run was stopped from outside; it has no result."""


@torch.no_grad()
def draw_latents(
    backbone: Backbone,
    noisy: Tensor,
    sigmas: Sequence[float],
    guidance: Guidance,
    dtype: torch.dtype | None = None,
    on_step: Callable[[], bool | None] = lambda: None,
) -> Tensor:
    """Return clean latents ``(b, c, h, w)``, sampled with the adapters that are on the U-Net.

    Args:
        backbone: the model; it sees both prompts of the guidance as one batch.
        noisy: ``(b, c, h, w)``, what to start from, at the first sigma.
        sigmas: falling, ending in 0.
        guidance: the prompts.
        dtype: what the U-Net computes in, None for the backbone's own.
        on_step: is called after each step; True stops.

    Raises:
        StoppedError: ``on_step`` asked for it.
    """
    prompt, plain, scale = guidance.prompt, guidance.plain, guidance.scale
    count = len(noisy)
    context = prompt
    if plain is not None:
        context = batch_contexts([prompt] * count + [negative(plain)] * count)

    def denoise(noisy: Tensor, sigma: float) -> Tensor:
        pair = noisy if plain is None else torch.cat([noisy, noisy])
        denoised = backbone.denoise(pair, sigma, context).float()
        if on_step():
            raise StoppedError
        if plain is None:
            return denoised
        guided, unguided = denoised.chunk(2)
        return unguided + scale * (guided - unguided)

    with backbone.autocast(dtype or backbone.compute_dtype):
        return sample_euler(denoise, noisy.to(backbone.device), sigmas)


def negative(context: Context) -> Context:
    """Return a single prompt marked as unconditional."""
    return replace(context, negative=(True,))


def batch_contexts(contexts: Sequence[Context]) -> Context:
    """Return the contexts of single prompts, long ones too, as one of a batch."""
    negatives = tuple(is_negative for context in contexts for is_negative in context.negative)
    if contexts[0].is_joint:
        return replace(contexts[0], negative=negatives, members=tuple(contexts))
    # Attention over repeated tokens is attention over the tokens.
    length = math.lcm(*(context.tokens.shape[1] for context in contexts))
    tokens = [c.tokens.repeat(1, length // c.tokens.shape[1], 1) for c in contexts]
    pooled = [c.pooled for c in contexts if c.pooled is not None]
    return Context(torch.cat(tokens), torch.cat(pooled) if pooled else None, negatives)


def sampling_sigmas(sigmas: Tensor, steps: int) -> list[float]:
    """Return ``steps + 1`` falling sigmas, evenly spaced in time and ending in 0.

    Args:
        sigmas: a checkpoint's rising ``(t,)`` schedule.
        steps: number of sampling steps, 1 or more.
    """
    times = torch.linspace(len(sigmas) - 1, 0, steps + 1)[:-1].round().long()
    return [*sigmas.cpu()[times].tolist(), 0.0]


def initial_noise(sigma: float, noise: Tensor) -> Tensor:
    """Return what sampling from ``(b, c, h, w)`` standard normal noise starts from at sigma."""
    return noise * math.sqrt(1 + sigma**2)


@torch.no_grad()
def sample_euler(
    denoise: Callable[[Tensor, float], Tensor], noisy: Tensor, sigmas: Sequence[float]
) -> Tensor:
    """Make latents clean in Euler steps (Karras et al., 2022, algorithm 2, no churn).

    Args:
        denoise: maps noisy latents ``(b, c, h, w)`` and a sigma to clean latents.
        noisy: ``(b, c, h, w)`` at the first sigma, see :func:`initial_noise`.
        sigmas: falling, ending in 0, see :func:`sampling_sigmas`.

    Returns:
        Clean latents ``(b, c, h, w)``.
    """
    for sigma, next_sigma in pairwise(sigmas):
        slope = (noisy - denoise(noisy, sigma)) / sigma
        noisy = noisy + slope * (next_sigma - sigma)
    return noisy
