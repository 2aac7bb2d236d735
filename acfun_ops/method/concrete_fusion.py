"""CFun, the concrete part of a style: inserts on U-Net blocks driven by feature statistics."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
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
_BLOCK = re.compile(rf"({'|'.join(_PARTS)})(\.[0-9]{{1,4}})+")


def part_of(block: str) -> Part:
    """Return the part of the U-Net that a canonical block name (``input_blocks.1.0``) is in.

    Raises:
        ACFunError: the name is none of a U-Net's.
    """
    name = _BLOCK.fullmatch(block)
    if name is None:
        raise ACFunError(
            "'{block}' is no U-Net block name; expected one that starts with {names}. "
            "The style file is damaged or foreign.",
            block=block,
            names=", ".join(_PARTS),
        )
    return _PARTS[name[1]]


def channel_statistics(x: Tensor, statistics: Statistics) -> Tensor:
    """Return the statistics over space that drive an insert (ACFun sec. 3.3), in float32.

    Args:
        x: features ``(b, c, h, w)`` or ``(b, c, n)``.
        statistics: "std" gives ``(b, c)``; "mean_std", the paper's ablation, ``(b, 2c)``.
    """
    x = x if x.dtype == torch.float32 else x.float()
    space = tuple(range(2, x.ndim))
    std = torch.sqrt(torch.var(x, dim=space, correction=0) + 1e-6)
    return std if statistics == "std" else torch.cat([x.mean(dim=space), std], dim=1)


class _Linear(nn.Linear):
    def reset_parameters(self) -> None:  # draws nothing where a file is about to fill the weights
        if not self.weight.is_meta:
            super().reset_parameters()


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
        self.down = _Linear(channels * (1 if statistics == "std" else 2), rank)
        self.scale = _Linear(rank, channels)
        self.shift = _Linear(rank, channels)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Sample the bottleneck (Xavier uniform) and set all else to zero: the identity.

        Args:
            generator: None takes torch's global one.
        """
        nn.init.xavier_uniform_(self.down.weight, generator=generator)
        for tensor in (self.down.bias, *self.scale.parameters(), *self.shift.parameters()):
            nn.init.zeros_(tensor)

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
        _check_channels(x, self.channels)
        with torch.autocast(x.device.type, enabled=False):
            hidden = F.silu(self.down(channel_statistics(x, self.statistics)))
            scale, shift = self.scale(hidden), self.shift(hidden)
            if isinstance(strength, float | int) and strength != 1:
                scale, shift = strength * scale, strength * shift
            shape = (*scale.shape, *[1] * (x.ndim - 2))
            gamma, beta = (1 + scale).to(x.dtype).view(shape), shift.to(x.dtype).view(shape)
            fused = torch.addcmul(beta, x, gamma)
        return fused if isinstance(strength, float | int) else _limited(x, fused, strength)


class FoldedFusion:
    """An insert at one strength, for drawing: the same function in about half the operations.

    One projection of copied weights, float32, gives gamma and beta with ``strength`` in them.

    Args:
        insert: whose function it is; may be changed or moved afterwards.
        strength: of the whole insert.
    """

    def __init__(self, insert: ConcreteFusion, strength: float = 1.0) -> None:
        self.channels = insert.channels
        self.statistics = insert.statistics
        with torch.no_grad():
            weight = torch.cat([insert.scale.weight, insert.shift.weight])
            self.down = insert.down.weight.float().t().contiguous()
            self.down_bias = insert.down.bias.float().clone()
            self.out = (strength * weight.float()).t().contiguous()
            biases = [1 + strength * insert.scale.bias, strength * insert.shift.bias]
            self.out_bias = torch.cat(biases).float()

    def to(self, device: torch.device) -> "FoldedFusion":
        """Return the same function with its weights on ``device``."""
        moved = copy(self)
        for name in ("down", "down_bias", "out", "out_bias"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved

    def __call__(self, x: Tensor, strength: float | Tensor = 1.0) -> Tensor:
        """Return what the insert returns for ``x`` ``(b, c, h, w)`` or ``(b, c, n)``.

        Args:
            x: features; the result has their dtype.
            strength: 1, or a map in [0, 1] that broadcasts against ``x``.

        Raises:
            ACFunError: ``x`` has another number of channels than the insert.
        """
        _check_channels(x, self.channels)
        with torch.autocast(x.device.type, enabled=False):
            hidden = torch.addmm(self.down_bias, channel_statistics(x, self.statistics), self.down)
            both = torch.addmm(self.out_bias, F.silu(hidden), self.out)
            both = both if both.dtype == x.dtype else both.to(x.dtype)
            shape = (x.shape[0], 2, self.channels, *[1] * (x.ndim - 2))
            gamma, beta = both.view(shape).unbind(dim=1)
            fused = torch.addcmul(beta, x, gamma)
        return fused if isinstance(strength, float | int) else _limited(x, fused, strength)


def _limited(x: Tensor, fused: Tensor, strength: Tensor) -> Tensor:
    # lerp returns x itself, bit for bit, where the map is 0.
    return torch.lerp(x, fused, strength.to(x.dtype).expand_as(x))


def _check_channels(x: Tensor, channels: int) -> None:
    if x.shape[1] != channels:
        raise ACFunError(
            "This style's insert is {channels} channels wide, the block {shape}. Apply "
            "the style to the model family it was trained on.",
            channels=channels,
            shape=x.shape[1],
        )


class BlockMask:
    """Where inserts act, or how much on each sample, at any block's size; each is made once.

    mask: ``(b, 1, h, w)`` in [0, 1], one for each sample that the U-Net sees.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask.float()
        self._sizes: dict[tuple[Any, ...], Tensor] = {}

    def at(self, size: Sequence[int], device: torch.device, strength: float = 1.0) -> Tensor:
        """Return ``strength`` times the mask at ``size`` (h, w), each value the mean of its area.

        Unlike interpolation it carries nothing over an edge.
        """
        key = (*size, device, strength)
        if key not in self._sizes:
            mask = F.interpolate(self.mask.to(device), size=tuple(size), mode="area")
            self._sizes[key] = strength * mask
        return self._sizes[key]


@dataclass(frozen=True, kw_only=True)
class PartStrengths:
    """How strongly the inserts of each part of the U-Net act; 1 is as trained, 0 is off."""

    encoder: float = 1.0
    """Of the inserts in ``input_blocks``: strokes and colours."""
    middle: float = 1.0
    """Of those in ``middle_block``."""
    decoder: float = 1.0
    """Of those in ``output_blocks``: the structure of the face."""

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
    inserts: Mapping[str, ConcreteFusion | FoldedFusion],
    modules: Mapping[str, nn.Module],
    strengths: PartStrengths = FULL_STRENGTH,
    mask: Tensor | BlockMask | None = None,
) -> Iterator[list["InsertHook"]]:
    """Hook inserts onto a U-Net's blocks for the length of a ``with`` block, errors included.

    Args:
        inserts: canonical block name to insert; a folded one has its strength already.
        modules: canonical block name to the module whose output the insert changes; it may return
            ``(b, c, h, w)`` features or ``(b, n, c)`` tokens.
        strengths: per part of the U-Net.
        mask: ``(b, 1, h, w)`` in [0, 1], or a :class:`BlockMask`; limits the effect in space.

    Yields:
        The hooks, each of which knows whether it has acted.

    Raises:
        ACFunError: an insert's block is missing from ``modules``.
    """
    missing = sorted(inserts.keys() - modules.keys())
    if missing:
        raise ACFunError(
            "The style has inserts for {count} blocks, but the model lacks {missing} "
            "({missing_count} missing). Apply the style to the model family it was trained on.",
            count=len(inserts),
            missing=missing[0],
            missing_count=len(missing),
        )
    mask = BlockMask(mask) if isinstance(mask, Tensor) else mask
    hooks = {
        block: InsertHook(insert, strengths.of(block), mask)
        for block, insert in inserts.items()
        if strengths.of(block) != 0
    }
    with ExitStack() as handles:
        for block, hook in hooks.items():
            handles.callback(modules[block].register_forward_hook(hook).remove)
        yield list(hooks.values())


class InsertHook:
    """A forward hook that passes a module's output through one insert."""

    def __init__(
        self, insert: ConcreteFusion | FoldedFusion, strength: float, mask: BlockMask | None
    ) -> None:
        self.insert = insert
        self.strength = strength
        self.mask = mask
        self.has_acted = False

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """See register_forward_hook: the result takes the place of ``output``."""
        self.has_acted = True
        features = rearrange(output, "b n c -> b c n") if output.ndim == 3 else output
        fused: Tensor = self.insert(features, self._strength_on(output))
        return rearrange(fused, "b c n -> b n c") if output.ndim == 3 else fused

    def _strength_on(self, output: Tensor) -> float | Tensor:
        if self.mask is None:
            return self.strength
        if output.ndim == 4:
            return self.mask.at(output.shape[-2:], output.device, self.strength)
        if self.mask.mask.shape[-2:] != (1, 1):
            raise ACFunError(
                "This style sits in attention blocks, where a mask cannot act; it needs inserts in "
                "ResBlocks. Disconnect the mask or use ResBlock inserts."
            )
        return self.mask.at((1, 1), output.device, self.strength)[..., 0]
