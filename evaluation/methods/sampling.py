"""Sampling images with a backbone: from noise, and from an image made noisy half-way."""

from collections.abc import Callable

import torch
from torch import Tensor

from acfun_ops.backbones.backbone import Backbone, Context
from acfun_ops.images import to_squares
from acfun_ops.method.diffusion import add_noise
from acfun_ops.sampling.sampler import Guidance, draw_latents, initial_noise, sampling_sigmas

from ..benchmark import STYLE_WORD, Images, Task

Start = tuple[Tensor, list[float]]
"""Noisy latents ``(n, c, h, w)``, and the falling sigmas from theirs to 0."""


def encode_square(backbone: Backbone, image: Tensor) -> Tensor:
    """Return the latent ``(1, c, h, w)`` of an image ``(s, s, 3)`` in [0, 1], on the device."""
    square = to_squares(image[None], backbone.native_side, "picture")
    return backbone.encode_pictures(square).to(backbone.device)


def noise_start(task: Task) -> Start:
    """Return the task's noise, to be denoised in all steps."""
    sigmas = sampling_sigmas(task.backbone.sigmas, task.sampling.steps)
    return initial_noise(sigmas[0], task.noise), sigmas


def image_start(task: Task, latent: Tensor, strength: float) -> Start:
    """Return a clean latent ``(1, c, h, w)`` made noisy (img2img; SDEdit, 2022).

    strength: share of the sampling steps that is done, above 0 and up to 1.
    """
    done = max(1, round(strength * task.sampling.steps))
    sigmas = sampling_sigmas(task.backbone.sigmas, task.sampling.steps)[-done - 1 :]
    return add_noise(latent, task.noise.to(task.backbone.device), sigmas[0]), sigmas


@torch.no_grad()
def sample(task: Task, context: Context, start: Start | None = None) -> Tensor:
    """Return images ``(n, s, s, 3)`` under a prompt, from noise or from another start."""
    backbone, scale = task.backbone, task.sampling.guidance
    latents, sigmas = start or noise_start(task)
    empty = None if scale == 1 else backbone.encode_prompt("", STYLE_WORD, {})
    guidance = Guidance(context, empty, scale)
    return backbone.decode_latents(draw_latents(backbone, latents, sigmas, guidance))


def sample_both(task: Task, encode: Callable[[str], Context], start: Start | None = None) -> Images:
    """Return the images of a pair's two prompts."""
    pair = task.pair
    return sample(task, encode(pair.prompt), start), sample(task, encode(pair.other_prompt), start)


def repeat_image(task: Task, latent: Tensor) -> Images:
    """Return one latent ``(1, c, h, w)`` as every image, for a method that reads no prompt."""
    images = task.backbone.decode_latents(latent).expand(len(task.noise), -1, -1, -1)
    return images, images
