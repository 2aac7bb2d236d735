"""Peers that start from the face photo and train nothing."""

from dataclasses import dataclass

import torch

from acfun_ops.method.alignment_loss import match_statistics

from ..benchmark import STYLE_WORD, Images, Method, Task
from .sampling import encode_square, image_start, sample_both


@dataclass(frozen=True, kw_only=True)
class LatentAdain(Method):
    """The face's latent in the style latent's channel statistics (Huang and Belongie, 2017).

    The light noise of the img2img after it, of a strength, gives variety between seeds.
    """

    strength: float = 0.3

    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        """See Method."""
        backbone, pair = task.backbone, task.pair
        latent = match_statistics(
            encode_square(backbone, pair.face), encode_square(backbone, pair.style)
        )
        return sample_both(
            task,
            lambda prompt: backbone.encode_prompt(pair.remove_style(prompt), STYLE_WORD, {}),
            image_start(task, latent, self.strength),
        )


@dataclass(frozen=True, kw_only=True)
class NamedImg2Img(Method):
    """Plain img2img from the face photo, with the style named in words."""

    strength: float = 0.6

    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        """See Method."""
        backbone, pair = task.backbone, task.pair
        return sample_both(
            task,
            lambda prompt: backbone.encode_prompt(pair.name_style(prompt), STYLE_WORD, {}),
            image_start(task, encode_square(backbone, pair.face), self.strength),
        )
