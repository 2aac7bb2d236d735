"""The frozen model with the style that is trained on it: the prompt fused, the inserts on."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count

import torch
from torch import Tensor

from ..backbones.backbone import Backbone, Context
from ..method.injection import attach_adapters
from ..sampling.sampler import Guidance, draw_latents, initial_noise, sampling_sigmas
from ..sampling.style_injection import Restyler
from .config import TrainConfig
from .optimizer import VECTORS_EVERY
from .trainable_style import Trainables
from .training_images import TEXT_ENCODER_OVERFLOWS, EncodedPair, check_finite


class StyledModel:
    """A backbone under a style that moves.

    Args:
        backbone: the frozen model.
        pair: the pictures, encoded, with the settings of the method.
        config: of the training.
        dtype: what the U-Net computes in.
        generator: samples the initial weights.
    """

    def __init__(
        self,
        backbone: Backbone,
        pair: EncodedPair,
        config: TrainConfig,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> None:
        self.backbone, self.pair, self.config, self.dtype = backbone, pair, config, dtype
        self.points = backbone.insert_points(config.insert_at)
        vectors = backbone.word_vectors(config.initial_word)
        with torch.no_grad():
            self.start = backbone.encode_prompt(config.prompt, config.pseudo_word, vectors)
        encoded = (*vectors.values(), self.start.tokens, self.start.pooled)
        check_finite(encoded, TEXT_ENCODER_OVERFLOWS)
        self.trainables = Trainables(
            text_dim=self.start.tokens.shape[-1],
            image_dim=pair.style_tokens.shape[-1],
            widths={block: point.channels for block, point in self.points.items()},
            vectors={name: vector.cpu() for name, vector in vectors.items()},
            layers=config.layers,
            heads=config.heads,
            dropout=config.dropout,
            rank=config.rank,
            statistics=config.statistics,
            generator=generator,
        ).to(backbone.device)

    def attach_adapters(self) -> AbstractContextManager[object]:
        """Hook the inserts onto the U-Net for the length of a ``with`` block."""
        modules = {block: point.module for block, point in self.points.items()}
        return attach_adapters(self.trainables.inserts(), modules)

    def prompt(self) -> Context:
        """Return the training prompt, differentiable in the pseudo-word's vectors."""
        vectors = dict(self.trainables.vectors.items())
        return self.backbone.encode_prompt(self.config.prompt, self.config.pseudo_word, vectors)

    def prompt_at(self, step: int, kept: dict[str, Tensor]) -> Context:
        """Return the training prompt of a step: encoded anew in every fourth, else as kept."""
        if "prompt" in kept and step % VECTORS_EVERY != 0:
            return Context(kept["prompt"], kept.get("pooled"))
        prompt = self.prompt()
        kept["prompt"] = prompt.tokens.detach()
        if prompt.pooled is not None:
            kept["pooled"] = prompt.pooled.detach()
        return prompt

    def fused(self, prompt: Context, dropout: torch.Generator | None = None) -> Context:
        """Return a prompt with the style's abstract part fused into it."""
        fusion, style_tokens = self.trainables.abstract, self.pair.style_tokens
        return Context(fusion(prompt.tokens, style_tokens, generator=dropout), prompt.pooled)

    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        """Return clean latents ``(b, c, h, w)``, float32."""
        with self.backbone.autocast(self.dtype):
            return self.backbone.denoise(noisy, sigma, context).float()

    def restyle_faces(self, on_step: Callable[[int, int], bool | None]) -> Tensor:
        """Return what the frozen model samples between face and style, ``(n, c, h, w)``.

        There is one for each of the pair's ``combinations``, sampled under the training prompt with
        the pseudo-word where it starts. Nothing may be attached.

        Args:
            on_step: is told after each forward how many are done, and of how many; True stops.

        Raises:
            StoppedError: ``on_step`` asked for it.
            InjectionError: the model is patched so that it cannot be done.
        """
        pair, how, done = self.pair, self.pair.settings.redrawing, count(1)
        total = (how.steps + 1) * len(pair.style) + (2 * how.steps + 1) * len(pair.combinations)
        plain = self.backbone.encode_prompt("", self.config.pseudo_word, {})
        restyled = {}
        with self.backbone.autocast(self.dtype), self.backbone.ignore_patches():
            restyler = Restyler(
                self.backbone, plain, self.start, how, lambda: on_step(next(done), total)
            )
            for number, latent in enumerate(torch.split(pair.style, 1)):
                style = restyler.invert(latent)
                for face in (face for other, face in pair.combinations if other == number):
                    inverted = restyler.invert(pair.face[face : face + 1])
                    restyled[number, face] = restyler.restyle(style, inverted)
        return torch.cat([restyled[both] for both in pair.combinations])

    @torch.no_grad()
    def draw(
        self,
        generator: torch.Generator,
        steps: int,
        scale: float = 1.0,
        on_step: Callable[[], bool | None] = lambda: None,
    ) -> Tensor:
        """Return a clean latent ``(1, c, h, w)`` of the training prompt, drawn from noise.

        Args:
            generator: samples the noise.
            steps: of the sampler.
            scale: of classifier-free guidance; 1 is off.
            on_step: see :func:`draw_latents`.

        Raises:
            StoppedError: ``on_step`` asked for it.
        """
        plain = None
        if scale != 1:
            plain = self.backbone.encode_prompt("", self.config.pseudo_word, {})
        sigmas = sampling_sigmas(self.backbone.sigmas, steps)
        noise = torch.randn(self.pair.style[:1].shape, generator=generator)
        guidance = Guidance(self.fused(self.prompt()), plain, scale)
        start = initial_noise(sigmas[0], noise)
        return draw_latents(self.backbone, start, sigmas, guidance, self.dtype, on_step)
