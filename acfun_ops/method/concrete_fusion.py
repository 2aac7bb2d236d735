"""CFun, the concrete part of a style: inserts on U-Net blocks driven by feature statistics."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ACFunError

Statistics = Literal["std", "mean_std"]
InsertAt = Literal["resblock", "attention"]
Part = Literal["encoder", "middle", "decoder"]

_PARTS: dict[str, Part] = {
    "input_blocks": "encoder",
    "middle_block": "middle",
    "output_blocks": "decoder",
}


def part_of(block: str) -> Part:
    """Return the part of the U-Net that a canonical block name (``input_blocks.1.0``) is in.

    Raises:
        ACFunError: the name is none of a U-Net's.
    """
    part = _PARTS.get(block.split(".", 1)[0])
    if part is None:
        raise ACFunError(
            f"'{block}' is no U-Net block name; expected one that starts with "
            f"{', '.join(_PARTS)}. The style file is damaged or foreign."
        )
    return part


def channel_statistics(x: Tensor, statistics: Statistics) -> Tensor:
    """Return the statistics over space that drive an insert (ACFun sec. 3.3), in float32.

    Args:
        x: features ``(b, c, h, w)`` or ``(b, c, n)``.
        statistics: "std" gives ``(b, c)``; "mean_std", the paper's ablation, ``(b, 2c)``.
    """
    x = x.flatten(2).float()
    variance, mean = torch.var_mean(x, dim=2, correction=0)
    std = torch.sqrt(variance + 1e-6)
    return std if statistics == "std" else torch.cat([mean, std], dim=1)


class ConcreteFusion(nn.Module):
    """CFun(x) = gamma(sigma(x)) * x + beta(sigma(x)) (ACFun sec. 3.3).

    ``gamma = 1 + scale`` and ``beta = shift`` come from one bottleneck over the standard deviation
    of each channel. Both last layers start at zero: an untrained insert returns its input exactly.

    Args:
        channels: c of the features.
        rank: width of the bottleneck.
        statistics: what drives it; "mean_std" is the paper's ablation.
    """

    def __init__(self, channels: int, rank: int = 32, statistics: Statistics = "std") -> None:
        super().__init__()
        self.channels = channels
        self.statistics: Statistics = statistics
        self.down = nn.Linear(channels * (1 if statistics == "std" else 2), rank)
        self.scale = nn.Linear(rank, channels)
        self.shift = nn.Linear(rank, channels)
        self._zero_scale_and_shift()

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the bottleneck anew (Xavier uniform) and set scale and shift to zero."""
        nn.init.xavier_uniform_(self.down.weight, generator=generator)
        nn.init.zeros_(self.down.bias)
        self._zero_scale_and_shift()

    def forward(self, x: Tensor, strength: float | Tensor = 1.0) -> Tensor:
        """Return ``x * (1 + strength * scale) + strength * shift``, in the dtype of ``x``.

        Args:
            x: features ``(b, c, h, w)`` or ``(b, c, n)``.
            strength: a number, or a map that broadcasts against ``x``; 0 returns ``x`` itself.

        Raises:
            ACFunError: ``x`` has another number of channels than the insert.
        """
        if isinstance(strength, float | int) and strength == 0:
            return x
        if x.shape[1] != self.channels:
            raise ACFunError(
                f"This style's insert is {self.channels} channels wide, the block {x.shape[1]}. "
                "Apply the style to the model family it was trained on."
            )
        with torch.autocast(x.device.type, enabled=False):
            hidden = F.silu(self.down(channel_statistics(x, self.statistics)))
            shape = (x.shape[0], self.channels) + (1,) * (x.ndim - 2)
            scale = strength * self.scale(hidden).view(shape)
            shift = strength * self.shift(hidden).view(shape)
        fused: Tensor = x * (1 + scale).to(x.dtype) + shift.to(x.dtype)
        return fused

    def _zero_scale_and_shift(self) -> None:
        for layer in (self.scale, self.shift):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


@dataclass(frozen=True, kw_only=True)
class PartStrengths:
    """How strongly the inserts of each part of the U-Net act; 1 is as trained, 0 is off."""

    encoder: float = 1.0
    middle: float = 1.0
    decoder: float = 1.0

    def of(self, block: str) -> float:
        """Return the strength for a canonical block name."""
        strength: float = getattr(self, part_of(block))
        return strength

    def scaled(self, strength: float) -> "PartStrengths":
        """Return all three multiplied by ``strength``."""
        return PartStrengths(
            encoder=self.encoder * strength,
            middle=self.middle * strength,
            decoder=self.decoder * strength,
        )

    def any(self) -> bool:
        """Tell whether any part acts at all."""
        return any((self.encoder, self.middle, self.decoder))


FULL_STRENGTH = PartStrengths()


@contextmanager
def attached(
    inserts: Mapping[str, ConcreteFusion],
    modules: Mapping[str, nn.Module],
    strengths: PartStrengths = FULL_STRENGTH,
    mask: Tensor | None = None,
) -> Iterator[None]:
    """Hook inserts onto a U-Net's blocks for the length of a ``with`` block, errors included.

    Args:
        inserts: canonical block name to insert.
        modules: canonical block name to the module whose output the insert changes; it may return
            ``(b, c, h, w)`` features or ``(b, n, c)`` tokens.
        strengths: per part of the U-Net.
        mask: ``(b, 1, h, w)`` in [0, 1], resized to each block; limits the effect in space.

    Raises:
        ACFunError: an insert's block is missing from ``modules``.
    """
    missing = sorted(inserts.keys() - modules.keys())
    if missing:
        raise ACFunError(
            f"The style has inserts for {len(inserts)} blocks, but the model lacks {missing[0]} "
            f"({len(missing)} missing). Apply the style to the model family it was trained on."
        )
    with ExitStack() as hooks:
        for block, insert in inserts.items():
            strength = strengths.of(block)
            if strength != 0:
                hook = _InsertHook(insert, strength, mask)
                hooks.callback(modules[block].register_forward_hook(hook).remove)
        yield


class _InsertHook:
    """A forward hook that passes a module's output through one insert."""

    def __init__(self, insert: ConcreteFusion, strength: float, mask: Tensor | None) -> None:
        self.insert = insert
        self.strength = strength
        self.mask = mask

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if output.ndim == 3:
            if self.mask is not None:
                raise ACFunError(
                    "This style sits in attention blocks, where a mask cannot act; it needs "
                    "inserts in ResBlocks. Disconnect the mask or use ResBlock inserts."
                )
            channels_first = rearrange(output, "b n c -> b c n")
            fused: Tensor = self.insert(channels_first, self.strength)
            return rearrange(fused, "b c n -> b n c")
        strength: float | Tensor = self.strength
        if self.mask is not None:
            mask = self.mask.to(output.device, torch.float32)
            strength = strength * F.interpolate(
                mask, size=output.shape[-2:], mode="bilinear", antialias=True
            )
        changed: Tensor = self.insert(output, strength)
        return changed
