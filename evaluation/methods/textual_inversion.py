"""Peers that learn words or attention and leave the U-Net alone."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from acfun_ops.backbones.backbone import Context
from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.images import to_squares
from acfun_ops.method.abstract_fusion import AbstractFusion
from acfun_ops.method.diffusion import add_noise
from acfun_ops.sampling.sampler import sample_euler

from ..benchmark import STYLE_WORD, Images, Method, Pair, Task
from . import peers


@dataclass(frozen=True, kw_only=True)
class TextualInversion(Method):
    """Two pseudo-words, one per picture (Gal et al., 2023), drawn as "F* in S* style".

    initial_face, initial_style: the words that F* and S* start at. stand_in: see encode_words.
    """

    learning_rate: float = 5e-3
    initial_face: str = "person"
    initial_style: str = "painting"
    stand_in: str = "z"
    seed: int = 0

    @override
    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        face = peers.trainable_words(backbone, self.initial_face)
        style = peers.trainable_words(backbone, self.initial_style)

        def encode(prompt: str, sigma: float) -> Context:
            return peers.encode_words(backbone, prompt, style, face, self.stand_in)

        shown = {
            f"a photo of {peers.FACE_WORD}": pair.face,
            f"a painting in {STYLE_WORD} style": pair.style,
        }
        examples = [
            peers.Example(peers.encode_square(backbone, image), partial(encode, prompt))
            for prompt, image in shown.items()
        ]
        words = [*face.values(), *style.values()]
        peers.learn_by_noise_loss(backbone, examples, words, steps, self.learning_rate, self.seed)
        peers.write_tensors(path, face=face, style=style)

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        words = peers.read_tensors(task.learnt, task.backbone.device)
        return peers.sample_words(task, words, peers.FACE_WORD, self.stand_in)


@dataclass(frozen=True, kw_only=True)
class Inst(Method):
    """Like InST (Zhang et al., 2023): the style by attention over image tokens, then img2img.

    The pseudo-word S*, fused with the style picture's tokens as AFun does it, learns the style
    picture alone; the face photo is made noisy by the model's own noise and drawn under it.

    strength: share of the sampling steps that is done from the photo on.
    """

    learning_rate: float = 1e-3
    initial_style: str = "painting"
    strength: float = 0.7
    seed: int = 0

    @override
    def training_key(self) -> "Inst":
        return replace(self, strength=1.0)

    @override
    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        words = peers.trainable_words(backbone, self.initial_style)
        image_tokens = _style_tokens(backbone, pair)
        with torch.no_grad():
            width = backbone.encode_prompt(STYLE_WORD, STYLE_WORD, words).tokens.shape[-1]
        fusion = AbstractFusion(width, image_tokens.shape[-1])
        fusion.reset_parameters(torch.Generator().manual_seed(self.seed))
        fusion.to(backbone.device)
        dropout = torch.Generator().manual_seed(self.seed)

        def encode(_: float) -> Context:
            context = backbone.encode_prompt(STYLE_WORD, STYLE_WORD, words)
            return Context(fusion(context.tokens, image_tokens, 1.0, dropout), context.pooled)

        example = peers.Example(peers.encode_square(backbone, pair.style), encode)
        moved = [*fusion.parameters(), *words.values()]
        peers.learn_by_noise_loss(backbone, [example], moved, steps, self.learning_rate, self.seed)
        peers.write_tensors(path, style=words, fusion=fusion.state_dict())

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        backbone = task.backbone
        groups = peers.read_tensors(task.learnt, backbone.device)
        image_tokens = _style_tokens(backbone, task.pair)
        width = groups["fusion"]["layers.0.query.weight"].shape[1]
        fusion = AbstractFusion(width, image_tokens.shape[-1]).to(backbone.device)
        fusion.load_state_dict(groups["fusion"])
        face = peers.encode_square(backbone, task.pair.face)
        start = peers.image_start(task, face, self.strength)

        def images(prompt: str) -> Tensor:
            context = backbone.encode_prompt(prompt, STYLE_WORD, groups["style"])
            fused = Context(fusion(context.tokens, image_tokens), context.pooled)
            return peers.sample(task, fused, replace_noise(backbone, face, start, fused))

        return images(STYLE_WORD), images(task.pair.other_prompt)


def replace_noise(
    backbone: DiffusersBackbone, latent: Tensor, start: peers.Start, context: Context
) -> peers.Start:
    """Return a noisy latent with the model's own prediction of its noise in place of the noise.

    InST's stochastic inversion, which keeps more of the image.
    """
    noisy, sigmas = start
    with backbone.autocast(backbone.compute_dtype):
        clean = backbone.denoise(noisy, sigmas[0], context).float()
    return add_noise(latent, (noisy - clean) / sigmas[0], sigmas[0]), sigmas


def _style_tokens(backbone: DiffusersBackbone, pair: Pair) -> Tensor:
    square = to_squares(pair.style[None], backbone.native_side, "style")
    return backbone.style_tokens(square)[0].float().to(backbone.device)


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

    @override
    def training_key(self) -> "DreamStyler":
        usual = {"strength": 1.0, "style_guidance": 1.0, "content_guidance": 1.0}
        return replace(self, **usual)  # type: ignore[arg-type]

    @override
    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        words = [peers.trainable_words(backbone, self.initial_style) for _ in range(self.bands)]

        def encode(sigma: float) -> Context:
            word = words[self.band(backbone, sigma)]
            return backbone.encode_prompt(pair.style_prompt, STYLE_WORD, word)

        example = peers.Example(peers.encode_square(backbone, pair.style), encode)
        moved = [vector for word in words for vector in word.values()]
        peers.learn_by_noise_loss(backbone, [example], moved, steps, self.learning_rate, self.seed)
        peers.write_tensors(path, **{str(band): word for band, word in enumerate(words)})

    def band(self, backbone: DiffusersBackbone, sigma: float) -> int:
        """Return which vector a noise level takes, 0 for the least noise."""
        time = int((backbone.sigmas - sigma).abs().argmin())
        return time * self.bands // len(backbone.sigmas)

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        backbone, pair = task.backbone, task.pair
        words = peers.read_tensors(task.learnt, backbone.device)
        face = peers.encode_square(backbone, pair.face)
        start, sigmas = peers.image_start(task, face, self.strength)

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
