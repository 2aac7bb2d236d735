"""Peers that restyle the photo and train no network."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
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
from .peers import (
    encode_square,
    image_start,
    read_tensors,
    repeat_image,
    sample_plain,
    write_tensors,
)


@dataclass
class Attended:
    """What one self-attention was given and gave, each ``(b, heads, n, d)``."""

    heads: int
    parts: dict[str, Tensor] = field(default_factory=dict)

    def put(self, part: str, tensor: Tensor) -> None:
        """Keep ``(b, n, heads * d)`` under a name: query, key, value or output."""
        self.parts[part] = rearrange(tensor, "b n (h d) -> b h n d", h=self.heads)

    def attend_to(self, source: "Attended") -> Tensor:
        """Return what the queries would have got from another's keys and values, detached."""
        query, key, value = self.parts["query"], source.parts["key"], source.parts["value"]
        return scaled_dot_product_attention(query, key, value).detach()


@contextmanager
def record_attention(attentions: Sequence[Any]) -> Iterator[list[Attended]]:
    """Read what passes through self-attentions during the next calls, for the length of a block."""
    records = [Attended(attention.heads) for attention in attentions]

    def store(record: Attended, part: str, *called: Any) -> None:
        # A hook before a module gets its inputs last, a hook after it its output.
        record.put(part, called[-1] if torch.is_tensor(called[-1]) else called[-1][0])

    with ExitStack() as hooks:
        for attention, record in zip(attentions, records, strict=True):
            parts = {"query": attention.to_q, "key": attention.to_k, "value": attention.to_v}
            for part, module in parts.items():
                hooks.callback(module.register_forward_hook(partial(store, record, part)).remove)
            before = attention.to_out[0].register_forward_pre_hook
            hooks.callback(before(partial(store, record, "output")).remove)
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
        style, face = (encode_square(task.backbone, image) for image in images)
        return repeat_image(task, self.latent(task.backbone, style, face))

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
        style, face = (encode_square(backbone, picture) for picture in (pair.style, pair.face))
        write_tensors(path, latents={"face": self.latent(backbone, style, face, steps)})

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
                return [replace(one, parts=dict(one.parts)) for one in seen]

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
            terms.append((mine.parts["output"] - mine.attend_to(its)).abs().mean())
            off = (mine.parts["query"] - content.parts["query"]).abs().mean()
            terms.append(self.query_weight * off)
        return torch.stack(terms).sum()

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        groups = read_tensors(task.learnt, task.backbone.device)
        return repeat_image(task, groups["latents"]["face"])


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
        latent = match_statistics(*(encode_square(task.backbone, image) for image in images))
        start = image_start(task, latent, self.strength)
        return sample_plain(task, task.pair.remove_style, start)


@dataclass(frozen=True, kw_only=True)
class NamedImg2Img(Method):
    """Plain img2img from the face photo, with the style named in words."""

    strength: float = 0.6

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        start = image_start(task, encode_square(task.backbone, task.pair.face), self.strength)
        return sample_plain(task, task.pair.name_style, start)
