"""The peer whose pseudo-word differs from noise level to noise level."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from acfun_ops.backbones.backbone import Context
from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.sampling.sampler import sample_euler

from ..benchmark import STYLE_WORD, Images, Method, Pair, Task
from .sampling import encode_square, image_start
from .training import (
    Example,
    learn_by_noise_loss,
    read_tensors,
    trainable_words,
    write_tensors,
)


@dataclass(frozen=True, kw_only=True)
class DreamStyler(Method):
    """DreamStyler (Ahn et al., 2024): a vector of S* per band of noise levels, guided two ways.

    The words learn the painting under a prompt that says what else it shows. Drawing starts at the
    photo made noisy, where the paper holds the content by a depth ControlNet, which this prior has
    none of. Guidance goes from the empty prompt by way of the content's words and of the style's
    word alone, half each.

    bands: how many vectors. style_guidance, content_guidance: of the two ways, as shares of the
    sampling's guidance. strength: share of the sampling steps that is done from the photo on.
    """

    learning_rate: float = 2e-3
    bands: int = 6
    initial_style: str = "painting"
    style_guidance: float = 1.0
    content_guidance: float = 1.0
    strength: float = 0.7
    seed: int = 0

    def training_key(self) -> "DreamStyler":
        """See Method."""
        usual = {"strength": 1.0, "style_guidance": 1.0, "content_guidance": 1.0}
        return replace(self, **usual)  # type: ignore[arg-type]

    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """See Method."""
        words = [trainable_words(backbone, self.initial_style) for _ in range(self.bands)]

        def encode(sigma: float) -> Context:
            word = words[self.band(backbone, sigma)]
            return backbone.encode_prompt(pair.style_prompt, STYLE_WORD, word)

        example = Example(encode_square(backbone, pair.style), encode)
        parameters = [vector for word in words for vector in word.values()]
        learn_by_noise_loss(backbone, [example], parameters, steps, self.learning_rate, self.seed)
        write_tensors(path, **{str(band): word for band, word in enumerate(words)})

    def band(self, backbone: DiffusersBackbone, sigma: float) -> int:
        """Return which vector a noise level takes, 0 for the least noise."""
        time = int((backbone.sigmas - sigma).abs().argmin())
        return time * self.bands // len(backbone.sigmas)

    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        """See Method."""
        backbone, pair = task.backbone, task.pair
        words = read_tensors(task.learnt, backbone.device)
        start, sigmas = image_start(task, encode_square(backbone, pair.face), self.strength)

        def images(prompt: str) -> Tensor:
            texts = ("", pair.remove_style(prompt), STYLE_WORD, prompt)

            def denoise(noisy: Tensor, sigma: float) -> Tensor:
                word = words[str(self.band(backbone, sigma))]
                clean = [
                    backbone.denoise(noisy, sigma, backbone.encode_prompt(t, STYLE_WORD, word))
                    for t in texts
                ]
                return self._guide(*clean, task.sampling.guidance)

            with backbone.autocast(backbone.compute_dtype):
                return backbone.decode_latents(sample_euler(denoise, start, sigmas))

        return images(pair.prompt), images(pair.other_prompt)

    def _guide(
        self, empty: Tensor, content: Tensor, style: Tensor, both: Tensor, guidance: float
    ) -> Tensor:
        to_style, to_content = (
            guidance * share / 2 for share in (self.style_guidance, self.content_guidance)
        )
        return (
            empty
            + to_content * (content - empty)
            + to_style * (both - content)
            + to_style * (style - empty)
            + to_content * (both - style)
        )
