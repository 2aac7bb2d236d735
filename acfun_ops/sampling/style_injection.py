"""The face redrawn in a style by the frozen model itself, without any training (StyleID).

Face and style picture are inverted to noise under the empty prompt. The face's noise takes on the
style's channel statistics and is drawn back with the style picture's self-attention keys and values
in the decoder, so that strokes come with the colours (Chung et al., CVPR 2024).
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ..backbones.backbone import Backbone, Context
from ..method.alignment_loss import Redrawing, match_statistics
from ..method.style_attention import borrowed, late
from .sampler import StoppedError, batch_contexts, negative, sample_euler, sampling_sigmas


@torch.no_grad()
def redrawn(
    backbone: Backbone,
    style: Tensor,
    face: Tensor,
    plain: Context,
    prompt: Context,
    how: Redrawing,
    on_step: Callable[[], bool | None] = lambda: None,
) -> Tensor:
    """Return a face's latent redrawn in the style of another's, ``(1, c, h, w)``; deterministic.

    Args:
        backbone: the model, with nothing hooked onto it.
        style: latent of the style picture, ``(1, c, h, w)``.
        face: latent of the face photo, ``(1, c, h, w)``.
        plain: the empty prompt, under which both are inverted.
        prompt: under which the face is drawn; StyleID's is empty too, but words keep the face.
        how: the settings.
        on_step: is called after each of ``2 * how.steps`` steps; True stops.

    Raises:
        StoppedError: ``on_step`` asked for it.
    """

    def told(denoised: Tensor) -> Tensor:
        if on_step():
            raise StoppedError
        return denoised.float()

    plain, sigmas = negative(plain), sampling_sigmas(backbone.sigmas, how.steps)
    path = inverted(backbone, torch.cat([style, face]), sigmas, plain, told)
    at = dict(zip(sigmas, reversed(path), strict=True))
    prompts = [prompt] if how.guidance == 1 else [plain, prompt]
    context = batch_contexts([plain, plain, *prompts])

    def denoise(noisy: Tensor, sigma: float) -> Tensor:
        batch = torch.cat([at[sigma], *[noisy] * len(prompts)])
        drawn = told(backbone.denoise(batch, sigma, context))[2:]
        return torch.lerp(drawn[:1], drawn[-1:], how.guidance)

    start = match_statistics(path[-1][1:], path[-1][:1])
    with borrowed(late(backbone.self_attentions()), how.kept_query, how.temperature):
        return sample_euler(denoise, start, sigmas)


@torch.no_grad()
def inverted(
    backbone: Backbone,
    latents: Tensor,
    sigmas: list[float],
    context: Context,
    told: Callable[[Tensor], Tensor] = lambda denoised: denoised,
) -> list[Tensor]:
    """Return clean latents on their way to noise, from clean on (DDIM inversion).

    Args:
        backbone: the model.
        latents: ``(b, c, h, w)``, clean.
        sigmas: falling, ending in 0.
        context: the prompt.
        told: is given each step's denoised latents, and returns them.

    Returns:
        The latents at each sigma, the clean ones first.
    """
    path = [latents]
    for low, high in pairwise(reversed(sigmas)):
        # At no noise at all the model cannot be asked; its least level is as good.
        asked = max(low, float(backbone.sigmas[0]))
        denoised = told(backbone.denoise(path[-1], asked, context))
        path.append(path[-1] + (path[-1] - denoised) / asked * (high - low))
    return path
