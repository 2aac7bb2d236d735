"""CFun, the concrete part of a style: inserts on U-Net blocks driven by feature statistics."""

from copy import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ACFunError

Statistics = Literal["std", "mean_std"]
InsertAt = Literal["resblock", "attention"]


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
        return fused if isinstance(strength, float | int) else _limit(x, fused, strength)


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
        return fused if isinstance(strength, float | int) else _limit(x, fused, strength)


def _limit(x: Tensor, fused: Tensor, strength: Tensor) -> Tensor:
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
