"""Peers that start from the face photo and train nothing."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.method.alignment_loss import match_statistics

from ..benchmark import STYLE_WORD, LearnsNothing, Pair, Sampling
from .sampling import encode_square, generate_from_image


@dataclass(frozen=True, kw_only=True)
class LatentAdain(LearnsNothing):
    """The face's latent in the style latent's channel statistics (Huang and Belongie, 2017).

    strength: of the img2img after it, whose light noise gives variety between seeds.
    """

    strength: float = 0.3

    @torch.no_grad()
    def generate(
        self,
        backbone: DiffusersBackbone,
        pair: Pair,
        learnt: Path,
        noise: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor]:
        """See Method."""
        face, style = encode_square(backbone, pair.face), encode_square(backbone, pair.style)
        return _generate_both(
            backbone,
            match_statistics(face, style),
            (pair.remove_style(pair.prompt), pair.remove_style(pair.other_prompt)),
            noise,
            self.strength,
            sampling,
        )


@dataclass(frozen=True, kw_only=True)
class NamedImg2Img(LearnsNothing):
    """Plain img2img from the face photo, with the style named in words."""

    strength: float = 0.6

    @torch.no_grad()
    def generate(
        self,
        backbone: DiffusersBackbone,
        pair: Pair,
        learnt: Path,
        noise: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor]:
        """See Method."""
        return _generate_both(
            backbone,
            encode_square(backbone, pair.face),
            (pair.name_style(pair.prompt), pair.name_style(pair.other_prompt)),
            noise,
            self.strength,
            sampling,
        )


def _generate_both(
    backbone: DiffusersBackbone,
    latent: Tensor,
    prompts: tuple[str, str],
    noise: Tensor,
    strength: float,
    sampling: Sampling,
) -> tuple[Tensor, Tensor]:
    samples, other = (
        generate_from_image(
            backbone,
            latent,
            backbone.encode_prompt(prompt, STYLE_WORD, {}),
            noise,
            strength,
            sampling,
        )
        for prompt in prompts
    )
    return samples, other
