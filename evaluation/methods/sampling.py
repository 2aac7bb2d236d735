"""Drawing pictures with a backbone: from noise, and from a picture made noisy half-way."""

import torch
from torch import Tensor

from acfun_ops.backbones.backbone import Backbone, Context
from acfun_ops.images import prepare_pictures
from acfun_ops.method.diffusion import add_noise
from acfun_ops.sampling.sampler import Guidance, draw_latents, initial_noise, sampling_sigmas

from ..benchmark import STYLE_WORD, Sampling


def encode_square(backbone: Backbone, picture: Tensor) -> Tensor:
    """Return the latent ``(1, c, h, w)`` of a picture ``(s, s, 3)`` in [0, 1], on the device."""
    square = prepare_pictures(picture[None], backbone.native_side, "picture")
    return backbone.encode_pictures(square).to(backbone.device)


@torch.no_grad()
def generate_from_noise(
    backbone: Backbone, context: Context, noise: Tensor, sampling: Sampling
) -> Tensor:
    """Return pictures ``(n, s, s, 3)`` drawn from noise ``(n, c, h, w)``."""
    sigmas = sampling_sigmas(backbone.sigmas, sampling.steps)
    guidance = Guidance(context, _plain(backbone, sampling), sampling.guidance)
    return backbone.decode_latents(
        draw_latents(backbone, initial_noise(sigmas[0], noise), sigmas, guidance)
    )


@torch.no_grad()
def generate_from_image(
    backbone: Backbone,
    latent: Tensor,
    context: Context,
    noise: Tensor,
    strength: float,
    sampling: Sampling,
    inverted: bool = False,
) -> Tensor:
    """Return pictures ``(n, s, s, 3)`` drawn from a latent made noisy (img2img; SDEdit, 2022).

    Args:
        backbone: the model.
        latent: ``(1, c, h, w)``, clean.
        context: the prompt.
        noise: ``(n, c, h, w)``, standard normal.
        strength: share of the sampling steps that is done, above 0 and up to 1.
        sampling: how.
        inverted: replace the noise by the model's own prediction of it, as InST's stochastic
            inversion does, which keeps more of the picture.
    """
    start, sigmas = noise_latent(backbone, latent, noise, strength, sampling)
    if inverted:
        with backbone.autocast(backbone.compute_dtype):
            clean = backbone.denoise(start, sigmas[0], context).float()
        start = add_noise(latent, (start - clean) / sigmas[0], sigmas[0])
    guidance = Guidance(context, _plain(backbone, sampling), sampling.guidance)
    return backbone.decode_latents(draw_latents(backbone, start, sigmas, guidance))


def noise_latent(
    backbone: Backbone, latent: Tensor, noise: Tensor, strength: float, sampling: Sampling
) -> tuple[Tensor, list[float]]:
    """Return what img2img starts from ``(n, c, h, w)``, and its falling sigmas.

    Arguments are those of :func:`generate_from_image`.
    """
    done = max(1, round(strength * sampling.steps))
    sigmas = sampling_sigmas(backbone.sigmas, sampling.steps)[-done - 1 :]
    return add_noise(latent, noise.to(backbone.device), sigmas[0]), sigmas


def _plain(backbone: Backbone, sampling: Sampling) -> Context | None:
    return None if sampling.guidance == 1 else backbone.encode_prompt("", STYLE_WORD, {})
