"""The frozen model with the style that is trained on it, and what lasts longer than a step."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache
from itertools import count

import torch
from torch import Tensor

from ..backbones.backbone import Backbone, Context
from ..method.abstract_fusion import inner_width
from ..method.injection import attach_adapters
from ..model_families import FAMILIES
from ..sampling.sampler import Guidance, draw_latents, initial_noise, sampling_sigmas
from ..sampling.style_injection import Restyler
from .config import TrainConfig
from .optimizer import VECTORS_EVERY
from .trainable_style import TrainableStyle
from .training_images import (
    RESTYLING_OVERFLOWS,
    TEXT_ENCODER_OVERFLOWS,
    EncodedImages,
    check_finite,
    compute_dtype,
)


class StyledModel:
    """A backbone under a style that moves.

    Args:
        backbone: the frozen model.
        pair: the images, encoded, with the settings of the method.
        config: of the run.
        generator: samples everything random in the run.

    Attributes:
        style: what is trained.
        cache: the encoded prompt (``prompt``, ``pooled``) and I_i of the loss variants ``imagery``
            and ``drawn`` (``redrawn``).
    """

    def __init__(
        self,
        backbone: Backbone,
        pair: EncodedImages,
        config: TrainConfig,
        generator: torch.Generator,
    ) -> None:
        self.backbone, self.pair, self.config, self.generator = backbone, pair, config, generator
        self.dtype = compute_dtype(backbone, config)
        self.points = backbone.insert_points(config.insert_at)
        vectors = backbone.word_vectors(config.initial_word)
        with torch.no_grad():
            self.start = backbone.encode_prompt(config.prompt, config.pseudo_word, vectors)
        encoded = (*vectors.values(), self.start.tokens, self.start.pooled)
        check_finite(encoded, TEXT_ENCODER_OVERFLOWS)
        self.style = TrainableStyle(
            config,
            text_dim=self.start.tokens.shape[-1],
            image_dim=pair.style_tokens.shape[-1],
            widths={block: point.channels for block, point in self.points.items()},
            vectors={name: vector.cpu() for name, vector in vectors.items()},
            generator=generator,
            inner=inner_width(
                self.start.tokens.shape[-1], config.heads, FAMILIES[backbone.family].most_inner
            ),
        ).to(backbone.device)
        self.cache: dict[str, Tensor] = {}

    def attach_adapters(self) -> AbstractContextManager[object]:
        """Hook the adapters onto the U-Net for the length of a ``with`` block."""
        modules = {block: point.module for block, point in self.points.items()}
        return attach_adapters(self.style.inserts(), modules)

    def encode_prompt(self) -> Context:
        """Return the training prompt, differentiable in the pseudo-word's vectors."""
        vectors = dict(self.style.vectors.items())
        return self.backbone.encode_prompt(self.config.prompt, self.config.pseudo_word, vectors)

    def context(self, step: int) -> Context:
        """Return the fused prompt of a step: encoded anew in every fourth, else as cached."""
        cache = self.cache
        if "prompt" in cache and step % VECTORS_EVERY != 0:
            prompt = replace(self.start, tokens=cache["prompt"], pooled=cache.get("pooled"))
        else:
            prompt = self.encode_prompt()
            cache["prompt"] = prompt.tokens.detach()
            if prompt.pooled is not None:
                cache["pooled"] = prompt.pooled.detach()
        return self.fuse_style(prompt, self.generator)

    def fuse_style(self, prompt: Context, dropout: torch.Generator | None = None) -> Context:
        """Return a prompt with AFun applied to it."""
        fusion, style_tokens = self.style.abstract, self.pair.style_tokens
        return replace(prompt, tokens=fusion(prompt.tokens, style_tokens, generator=dropout))

    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        """Return clean latents ``(b, c, h, w)``, float32."""
        with self.backbone.autocast(self.dtype):
            return self.backbone.denoise(noisy, sigma, context).float()

    def restyle_faces(self, on_step: Callable[[int, int], bool | None]) -> None:
        """Cache I_i of ``drawn``: each of the pair's ``combinations`` by the frozen model.

        Restyled under the training prompt with the pseudo-word where it starts. No adapter may be
        attached.

        Args:
            on_step: is told after each forward how many are done, and of how many; True stops.

        Raises:
            StoppedError: ``on_step`` asked for it.
            InjectionError: the model is patched so that it cannot be done.
            ACFunError: the model gives values that are not finite.
        """
        pair, how, done = self.pair, self.pair.settings.redrawing, count(1)
        styles, faces, both = len(pair.style), len(pair.face), pair.combinations
        total = (how.steps + 1) * (styles + faces) + how.steps * len(both)
        plain = self.backbone.encode_prompt("", self.config.pseudo_word, {})
        with self.backbone.autocast(self.dtype), self.backbone.ignore_patches():
            restyler = Restyler(
                self.backbone, plain, self.start, how, lambda: on_step(next(done), total)
            )
            style = lru_cache(1)(lambda n: restyler.invert(pair.style[n : n + 1]))
            face = lru_cache(1)(lambda n: restyler.invert(pair.face[n : n + 1]))
            # In this order each is inverted once, and one of each role is held at a time.
            order = sorted(both, key=lambda one: one[styles > faces])
            restyled = {one: restyler.restyle(style(one[0]), face(one[1])) for one in order}
        images = torch.cat([restyled[one] for one in both])
        check_finite((images,), RESTYLING_OVERFLOWS)
        self.cache["redrawn"] = images

    def intermediate(
        self, step: int, style: int, face: int, on_step: Callable[[], bool | None]
    ) -> Tensor | None:
        """Return I_i of a step, ``(1, c, h, w)``; None in a loss variant without one.

        Args:
            step: steps done. Every ``imagery_every`` of them, that of ``imagery`` is sampled anew.
            style: index of the style picture.
            face: index of the face photo.
            on_step: see :func:`draw_latents`.

        Raises:
            StoppedError: ``on_step`` asked for it.
        """
        settings = self.pair.settings
        if "redrawn" in self.cache:
            return self.cache["redrawn"][self.pair.nearest_combination(style, face), None]
        if self.config.alignment == "imagery" and (
            "imagery" not in self.cache or step % settings.imagery_every == 0
        ):
            self.cache["imagery"] = self.sample(
                self.generator, settings.imagery_steps, on_step=on_step
            )
        return self.cache.get("imagery")

    @torch.no_grad()
    def sample(
        self,
        generator: torch.Generator,
        steps: int,
        scale: float = 1.0,
        on_step: Callable[[], bool | None] = lambda: None,
    ) -> Tensor:
        """Return a clean latent ``(1, c, h, w)`` of the training prompt, sampled from noise.

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
        guidance = Guidance(self.fuse_style(self.encode_prompt()), plain, scale)
        start = initial_noise(sigmas[0], noise)
        return draw_latents(self.backbone, start, sigmas, guidance, self.dtype, on_step)
