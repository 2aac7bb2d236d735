"""CFun, the concrete part of a style: adapters on U-Net blocks, driven by feature statistics."""

from copy import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..errors import ACFunError

Statistics = Literal["std", "mean_std"]
InsertAt = Literal["resblock", "attention"]


# As small as a deviation may be in the gradient's denominator: that of a flat channel is 0.
_LEAST_DEVIATION = 1e-3


class _Deviation(torch.autograd.Function):
    """Standard deviation over space, float32; for the backward pass ``x`` is kept as it came.

    Autograd's own would keep a float32 copy of each half-precision residual branch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        full = x.float() if x.element_size() < 4 else x
        std = torch.std(full, dim=_space(x), correction=0)
        ctx.save_for_backward(x, std)
        return std

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_std: Tensor) -> Tensor:
        x, std = ctx.saved_tensors
        mean = torch.mean(x, dim=_space(x), dtype=std.dtype)
        slope = to_std / (x[0, 0].numel() * std.clamp_min(_LEAST_DEVIATION))
        shape = (*std.shape, *[1] * (x.ndim - 2))
        return torch.addcmul((-mean * slope).view(shape), x, slope.view(shape)).to(x.dtype)


def channel_statistics(x: Tensor, statistics: Statistics) -> Tensor:
    """Return the statistics over space that drive an adapter (ACFun sec. 3.3), at least float32.

    Args:
        x: features ``(b, c, h, w)`` or ``(b, c, n)``.
        statistics: "std" gives ``(b, c)``; "mean_std", the paper's ablation, ``(b, 2c)``.
    """
    std: Tensor = _Deviation.apply(x)  # type: ignore[no-untyped-call]
    if statistics == "std":
        return std
    return torch.cat([x.mean(dim=_space(x), dtype=std.dtype), std], dim=1)


def _space(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


class _Linear(nn.Linear):
    def reset_parameters(self) -> None:  # draws nothing where a file is about to fill the weights
        if not self.weight.is_meta:
            super().reset_parameters()


class ConcreteFusion(nn.Module):
    """CFun(x) = gamma(sigma(x)) * x + beta(sigma(x)) (ACFun sec. 3.3).

    ``gamma = 1 + scale`` and ``beta = shift`` come from one bottleneck over the standard deviation
    of each channel. Both last layers start at zero: an untrained adapter returns its input exactly.

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
            ACFunError: ``x`` has another number of channels than the adapter.
        """
        if isinstance(strength, Tensor):
            return FoldedFusion(self)(x, strength)
        return x if strength == 0 else FoldedFusion(self, strength)(x)


class FoldedFusion:
    """CFun at one strength: one projection of the bottleneck gives gamma and beta.

    Args:
        adapter: whose function it is; its weights are shared.
        strength: of the whole adapter.
    """

    def __init__(self, adapter: ConcreteFusion, strength: float = 1.0) -> None:
        self.channels = adapter.channels
        self.statistics = adapter.statistics
        scale, shift = adapter.scale, adapter.shift
        weight = torch.cat([scale.weight, shift.weight])
        biases: list[Tensor] = [scale.bias, shift.bias]
        if strength != 1:
            weight, biases = strength * weight, [strength * bias for bias in biases]
        self.down, self.down_bias = adapter.down.weight.t(), adapter.down.bias
        self.out, self.out_bias = weight.t(), torch.cat([1 + biases[0], biases[1]])

    def to(self, device: torch.device) -> "FoldedFusion":
        """Return the same function with its weights on ``device``."""
        moved = copy(self)
        for name in ("down", "down_bias", "out", "out_bias"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved

    def __call__(self, x: Tensor, strength: float | Tensor = 1.0) -> Tensor:
        """Return ``gamma(sigma(x)) * x + beta(sigma(x))``, in the dtype of ``x``.

        Args:
            x: features ``(b, c, h, w)`` or ``(b, c, n)``.
            strength: 1, or a map in [0, 1] that broadcasts against ``x``: how much of the change.

        Raises:
            ACFunError: ``x`` has another number of channels than the adapter.
        """
        if x.shape[1] != self.channels:
            raise ACFunError(
                "This style's insert is {channels} channels wide, the block {shape}. Apply "
                "the style to the model family it was trained on.",
                channels=self.channels,
                shape=x.shape[1],
            )
        with torch.autocast(x.device.type, enabled=False):
            sigma = channel_statistics(x, self.statistics)
            hidden = F.silu(torch.addmm(self.down_bias, sigma, self.down))
            both = torch.addmm(self.out_bias, hidden, self.out).to(x.dtype)
            shape = (x.shape[0], 2, self.channels, *[1] * (x.ndim - 2))
            gamma, beta = both.view(shape).unbind(dim=1)
            fused = torch.addcmul(beta, x, gamma)
        if not isinstance(strength, Tensor):
            return fused
        # lerp returns x itself, bit for bit, where the map is 0.
        return torch.lerp(x, fused, strength.to(x.dtype).expand_as(x))
