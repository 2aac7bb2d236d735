"""Candidates for the method that the product has not: ACFun with one thing more, each a row."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from acfun_ops.backbones.backbone import Context
from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.images import prepare_pictures
from acfun_ops.method import concrete_fusion
from acfun_ops.method.alignment_loss import AlignmentBatch
from acfun_ops.method.concrete_fusion import InsertHook, Statistics, part_of
from acfun_ops.method.diffusion import noise_level
from acfun_ops.method.style_attention import late
from acfun_ops.training import fit as training

from ..benchmark import Pair, Sampling
from ..methods.acfun import Acfun
from ..methods.self_attention import Attended, read

Change = Literal[
    "style's attention", "crops", "log deviations", "normalised deviations", "parts by noise"
]
LOW_NOISE = 0.5
ATTENTION_WEIGHT = 0.5
CROPS = 16


@dataclass(frozen=True, kw_only=True)
class Candidate(Acfun):
    """ACFun with a change.

    change: "style's attention": at low noise, the restyled face's self-attention in the decoder is
    pulled to what it would be with the style picture's keys and values (Attention Distillation as
    a loss). "crops": at low noise the style picture is seen in shifted crops and mirrored.
    "log deviations": CFun is driven by their logarithm; "normalised deviations": by them over the
    block's mean. "parts by noise": inserts of the encoder act at low noise alone, the decoder's at
    high noise alone.
    """

    change: Change

    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """See Method."""
        with changed(self.change, backbone, pair) as changed_backbone:
            super().learn(changed_backbone, pair, steps, path)

    def generate(
        self,
        backbone: DiffusersBackbone,
        pair: Pair,
        learnt: Path,
        noise: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor]:
        """See Method."""
        if self.change in ("style's attention", "crops"):
            return super().generate(backbone, pair, learnt, noise, sampling)
        with changed(self.change, backbone, pair) as changed_backbone:
            return super().generate(changed_backbone, pair, learnt, noise, sampling)


@contextmanager
def changed(change: Change, backbone: DiffusersBackbone, pair: Pair) -> Iterator[Any]:
    """Train or draw with a change; yield the backbone to do it with."""
    if change == "parts by noise":
        yield PartsByNoise(backbone)
        return
    if change == "style's attention":
        with read(late(backbone.self_attentions())) as seen, _attention_loss(seen):
            yield backbone
        return
    if change == "crops":
        changes: tuple[Any, str, Any] = (training, "alignment_batch", _with_crops(backbone, pair))
    else:
        changes = (concrete_fusion, "channel_statistics", _DEVIATIONS[change])
    with patch.object(*changes):
        yield backbone


class PartsByNoise:
    """A backbone on which a style's encoder acts at low noise alone, its decoder at high."""

    def __init__(self, backbone: DiffusersBackbone) -> None:
        self._backbone = backbone
        self._own: dict[InsertHook, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        """See Backbone."""
        off = "encoder" if noise_level(sigma) > LOW_NOISE else "decoder"
        for block, point in self._backbone.insert_points("resblock").items():
            for hook in point.module._forward_hooks.values():
                if isinstance(hook, InsertHook):
                    # Not put back here: a checkpoint in the backward pass must see it, too.
                    own = self._own.setdefault(hook, hook.strength)
                    hook.strength = 0.0 if part_of(block) == off else own
        return self._backbone.denoise(noisy, sigma, context)


@contextmanager
def _attention_loss(seen: list[Attended]) -> Iterator[None]:
    plain = training.alignment_loss

    def loss(denoised: Tensor, batch: AlignmentBatch, sigma: float, *rest: Any) -> Tensor:
        base = plain(denoised, batch, sigma, *rest)
        if noise_level(sigma) > LOW_NOISE:
            return base
        terms = []
        for one in seen:
            face = replace(one, parts={name: part[1:] for name, part in one.parts.items()})
            painting = replace(one, parts={name: part[:1] for name, part in one.parts.items()})
            target = face.towards(painting)
            # Relative, so that no layer counts by its scale.
            terms.append((face.parts["output"] - target).abs().mean() / target.abs().mean())
        return base + ATTENTION_WEIGHT * torch.stack(terms).mean()

    with patch.object(training, "alignment_loss", loss):
        yield


def _with_crops(backbone: DiffusersBackbone, pair: Pair) -> Any:
    plain = training.alignment_batch
    crops = cycle(_crops(backbone, pair))

    def batch(reading: Any, style: Tensor, face: Tensor, sigma: float, *rest: Any) -> Any:
        made = plain(reading, style, face, sigma, *rest)
        if noise_level(sigma) > LOW_NOISE:
            return made
        crop = next(crops)
        return replace(made, latents=torch.cat([crop, made.latents[1:]]), style=crop)

    return batch


@torch.no_grad()
def _crops(backbone: DiffusersBackbone, pair: Pair) -> list[Tensor]:
    square = prepare_pictures(pair.style[None], backbone.native_side, "style")
    picture = rearrange(square, "1 h w c -> 1 c h w")
    side = picture.shape[-1]
    margin = side // 4
    around = F.pad(picture, (margin,) * 4, mode="reflect")
    generator = torch.Generator().manual_seed(0)
    latents = []
    for number in range(CROPS):
        top, left = torch.randint(2 * margin + 1, (2,), generator=generator).tolist()
        crop = around[..., top : top + side, left : left + side]
        crop = crop.flip(-1) if number % 2 else crop
        encoded = backbone.encode_pictures(rearrange(crop, "1 c h w -> 1 h w c"))
        latents.append(encoded.to(backbone.device))
    return latents


_statistics = concrete_fusion.channel_statistics


def _log_deviations(x: Tensor, statistics: Statistics) -> Tensor:
    return _statistics(x, statistics).log()


def _normalised_deviations(x: Tensor, statistics: Statistics) -> Tensor:
    deviations = _statistics(x, statistics)
    return deviations / deviations.mean(dim=1, keepdim=True)


_DEVIATIONS = {
    "log deviations": _log_deviations,
    "normalised deviations": _normalised_deviations,
}
