"""The peer whose pseudo-word differs from noise level to noise level."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from acfun_ops.backbones.backbone import Context
from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.sampling.sampler import sample_euler

from ..benchmark import STYLE_WORD, Pair, Sampling
from .sampling import encode_square, noise_latent
from .training import Example, learn_by_noise_loss, read_tensors, write_tensors


@dataclass(frozen=True, kw_only=True)
class DreamStyler:
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
    learns: ClassVar[bool] = True

    def training_key(self) -> "DreamStyler":
        """See Method."""
        usual = {"strength": 1.0, "style_guidance": 1.0, "content_guidance": 1.0}
        return replace(self, **usual)  # type: ignore[arg-type]

    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """See Method."""
        words = [
            {
                name: vector.clone().requires_grad_()
                for name, vector in backbone.word_vectors(self.initial_style).items()
            }
            for _ in range(self.bands)
        ]

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
    def generate(
        self,
        backbone: DiffusersBackbone,
        pair: Pair,
        learnt: Path,
        noise: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor]:
        """See Method."""
        words = read_tensors(learnt, backbone.device)
        face = encode_square(backbone, pair.face)
        start, sigmas = noise_latent(backbone, face, noise, self.strength, sampling)

        def pictures(prompt: str) -> Tensor:
            texts = ("", pair.remove_style(prompt), STYLE_WORD, prompt)

            def denoise(noisy: Tensor, sigma: float) -> Tensor:
                word = words[str(self.band(backbone, sigma))]
                clean = [
                    backbone.denoise(noisy, sigma, backbone.encode_prompt(t, STYLE_WORD, word))
                    for t in texts
                ]
                return self._guide(*clean, sampling.guidance)

            with backbone.autocast(backbone.compute_dtype):
                return backbone.decode_latents(sample_euler(denoise, start, sigmas))

        return pictures(pair.prompt), pictures(pair.other_prompt)

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
