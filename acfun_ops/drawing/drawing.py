"""Drawing a latent from noise with a Backbone, for previews and for the reading ``imagery``."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..backbones.backbone import Backbone, Context
from ..method.diffusion import sample_euler, sampling_sigmas


@torch.no_grad()
def draw_latent(
    backbone: Backbone,
    dtype: torch.dtype,
    noise: Tensor,
    steps: int,
    styled: Context,
    plain: Context | None = None,
    guidance: float = 1.0,
) -> Tensor:
    """Return a clean latent ``(b, c, h, w)``, drawn with whatever is hooked onto the U-Net.

    Args:
        backbone: the model.
        dtype: what the U-Net computes in.
        noise: ``(b, c, h, w)``, standard normal.
        steps: Euler steps.
        styled: the prompt.
        plain: the empty prompt, for classifier-free guidance; None for none.
        guidance: its scale.
    """
    sigmas = sampling_sigmas(backbone.sigmas, steps)
    denoise = guided_denoiser(backbone, dtype, styled, plain, guidance)
    return sample_euler(denoise, noise.to(backbone.device), sigmas)


def guided_denoiser(
    backbone: Backbone,
    dtype: torch.dtype,
    styled: Context,
    plain: Context | None,
    guidance: float,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what maps noisy latents and a sigma to clean latents, see :func:`draw_latent`."""

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        with backbone.autocast(dtype):
            guided = backbone.denoise(noisy, sigma, styled).float()
            if plain is None:
                return guided
            unguided = backbone.denoise(noisy, sigma, plain).float()
        return unguided + guidance * (guided - unguided)

    return denoise
