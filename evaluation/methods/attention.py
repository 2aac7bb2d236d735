"""Peers that restyle the photo and train no network."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from typing_extensions import override

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.method.alignment_loss import Redrawing, match_statistics
from acfun_ops.sampling.sampler import sampling_sigmas
from acfun_ops.sampling.style_injection import Restyler, last_two_thirds

from ..benchmark import STYLE_WORD, Images, Method, Pair, Task
from . import peers

Attended = dict[str, Tensor]
"""A self-attention's query, key, value and output by these names, each ``(b, heads, n, d)``."""


@contextmanager
def record_attention(attentions: Sequence[Any]) -> Iterator[list[Attended]]:
    """Read what passes through self-attentions during the next calls, for the length of a block."""
    records: list[Attended] = [{} for _ in attentions]

    def store(record: Attended, part: str, heads: int, *called: Any) -> None:
        # A hook before a module gets its inputs last, a hook after it its output.
        tensor = called[-1] if torch.is_tensor(called[-1]) else called[-1][0]
        record[part] = rearrange(tensor, "b n (h d) -> b h n d", h=heads)

    with ExitStack() as hooks:
        for attention, record in zip(attentions, records, strict=True):
            parts = {"query": attention.to_q, "key": attention.to_k, "value": attention.to_v}
            for part, module in parts.items():
                keep = partial(store, record, part, attention.heads)
                hooks.enter_context(module.register_forward_hook(keep))
            keep = partial(store, record, "output", attention.heads)
            hooks.enter_context(attention.to_out[0].register_forward_pre_hook(keep))
        yield records


@dataclass(frozen=True, kw_only=True)
class StyleId(Method):
    """StyleID (Chung et al., 2024): photo and painting inverted, redrawn by the painting's keys.

    Both are inverted to noise under the empty prompt; the photo's noise takes the painting's
    channel statistics and is drawn back with the painting's self-attention keys and values in the
    decoder. Deterministic, so the samples of a pair are one picture, and no prompt is read.

    kept_query: share of the photo's own query. temperature: of the attention to the painting.
    steps: of the inversion and of the drawing, 50 in the paper.
    """

    kept_query: float = 0.75
    temperature: float = 1.5
    steps: int = 20

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        images = task.pair.style, task.pair.face
        style, face = (peers.encode_square(task.backbone, image) for image in images)
        return peers.repeat_image(task, self.latent(task.backbone, style, face))

    @torch.no_grad()
    def latent(self, backbone: DiffusersBackbone, style: Tensor, face: Tensor) -> Tensor:
        """Return the face's latent ``(1, c, h, w)`` redrawn in the style of another's."""
        context = backbone.encode_prompt("", STYLE_WORD, {})
        how = Redrawing(kept_query=self.kept_query, temperature=self.temperature, steps=self.steps)
        restyler = Restyler(backbone, context, context, how)
        return restyler.restyle(restyler.invert(style), restyler.invert(face))


@dataclass(frozen=True, kw_only=True)
class AttentionDistillation(Method):
    """Attention Distillation (Zhou et al., 2025), its optimisation of one latent.

    The photo's latent is moved until its self-attention gives, at falling noise levels, what it
    would give with the painting's keys and values, while its queries stay near the photo's. No
    prompt is read, and the samples of a pair are one picture.

    query_weight: of staying near the photo.
    """

    learning_rate: float = 0.05
    query_weight: float = 0.25

    @override
    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        style, face = (peers.encode_square(backbone, image) for image in (pair.style, pair.face))
        peers.write_tensors(path, latents={"face": self.latent(backbone, style, face, steps)})

    def latent(
        self, backbone: DiffusersBackbone, style: Tensor, face: Tensor, steps: int
    ) -> Tensor:
        """Return the face's latent ``(1, c, h, w)`` moved in so many steps."""
        context = backbone.encode_prompt("", STYLE_WORD, {})
        moved = face.clone().requires_grad_()
        adam = torch.optim.Adam([moved], lr=self.learning_rate)
        with record_attention(last_two_thirds(backbone.self_attentions())) as seen:

            def attend(latent: Tensor, sigma: float) -> list[Attended]:
                # Clean latents go in at every noise level, in the U-Net's own scale.
                backbone.denoise(latent * (1 + sigma**2) ** 0.5, sigma, context)
                return [dict(one) for one in seen]

            for sigma in sampling_sigmas(backbone.sigmas, steps)[:-1]:
                with torch.no_grad():
                    painting, photo = attend(style, sigma), attend(face, sigma)
                loss = self._loss(attend(moved, sigma), painting, photo)
                adam.zero_grad()
                torch.autograd.backward(loss)
                adam.step()
        return moved.detach()

    def _loss(self, own: list[Attended], painting: list[Attended], photo: list[Attended]) -> Tensor:
        terms = []
        for mine, its, content in zip(own, painting, photo, strict=True):
            aim = scaled_dot_product_attention(mine["query"], its["key"], its["value"]).detach()
            terms.append((mine["output"] - aim).abs().mean())
            terms.append(self.query_weight * (mine["query"] - content["query"]).abs().mean())
        return torch.stack(terms).sum()

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        groups = peers.read_tensors(task.learnt, task.backbone.device)
        return peers.repeat_image(task, groups["latents"]["face"])


@dataclass(frozen=True, kw_only=True)
class LatentAdain(Method):
    """The face's latent in the style latent's channel statistics (Huang and Belongie, 2017).

    The light noise of the img2img after it, of a strength, gives variety between seeds.
    """

    strength: float = 0.3

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        images = task.pair.face, task.pair.style
        latent = match_statistics(*(peers.encode_square(task.backbone, image) for image in images))
        start = peers.image_start(task, latent, self.strength)
        return peers.sample_plain(task, task.pair.remove_style, start)


@dataclass(frozen=True, kw_only=True)
class NamedImg2Img(Method):
    """Plain img2img from the face photo, with the style named in words."""

    strength: float = 0.6

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        face = peers.encode_square(task.backbone, task.pair.face)
        start = peers.image_start(task, face, self.strength)
        return peers.sample_plain(task, task.pair.name_style, start)
