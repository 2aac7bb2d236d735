"""How InstantStyle draws, by whatever adapter sees the style picture."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.method.diffusion import noise_at, sampling_sigmas
from acfun_ops.sampling.sampler import Guidance, draw_latents

from ..benchmark import STYLE_WORD, Pair, Sampling
from .ip_adapter import Adapter, adapted
from .sampling import encode_square, made_noisy


class SeenStyle(NamedTuple):
    """An adapter, the block that it acts in, and the embedding ``(1, d)`` that it sees."""

    adapter: Adapter
    block: str
    embedding: Tensor


@dataclass(frozen=True, kw_only=True)
class DrawsByAdapter:
    """What InstantStyle's rows have in common.

    scale: of the adapter. named: name the style in words, too. strength: share of the sampling
    steps that is done from the photo on; 1 starts from noise.
    """

    scale: float = 1.0
    named: bool = False
    strength: float = 1.0

    def drawn(
        self,
        backbone: DiffusersBackbone,
        pair: Pair,
        style: SeenStyle,
        photo: Tensor,
        noise: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor]:
        """Return the pictures of both prompts, see Method; a photo is ``(s, s, 3)``."""
        if self.strength < 1:
            latent = encode_square(backbone, photo)
            start, sigmas = made_noisy(backbone, latent, noise, self.strength, sampling)
        else:
            sigmas = sampling_sigmas(backbone.sigmas, sampling.steps)
            start = noise_at(sigmas[0], noise)
        is_guided = sampling.guidance != 1
        empty = backbone.encode_prompt("", STYLE_WORD, {}) if is_guided else None

        def pictures(prompt: str) -> Tensor:
            words = pair.name_style(prompt) if self.named else pair.remove_style(prompt)
            context = backbone.encode_prompt(words, STYLE_WORD, {})
            guidance = Guidance(context, empty, sampling.guidance)
            return backbone.decode_latents(draw_latents(backbone, start, sigmas, guidance))

        blank = [torch.zeros_like(style.embedding)] * is_guided
        with adapted(backbone, style.adapter, style.block, self.scale) as seen:
            seen[:] = [torch.cat([style.embedding, *blank])]
            return pictures(pair.prompt), pictures(pair.other_prompt)
