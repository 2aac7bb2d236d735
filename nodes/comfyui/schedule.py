"""When in a sampling a style's adapters act, how strongly, and under which prompts."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...acfun_ops.errors import ACFunError

CONSTANT = "constant"
# Strength in [0, 1] by the share of the range that is over.
_EASES: dict[str, Callable[[float], float]] = {
    CONSTANT: lambda over: 1.0,
    "fade in": lambda over: over,
    "fade out": lambda over: 1 - over,
    "fade in and out": lambda over: math.sin(math.pi * over),
}
EASES = tuple(_EASES)
WHOLE = (0.0, 1.0)
"""The span of a sampling that begins at the highest noise and removes all of it."""

BOTH, POSITIVE, NEGATIVE = APPLIES_TO = ("both", "positive only", "negative only")

_PERCENT_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class AdapterSchedule:
    """When adapters act, how strongly, and under which prompts.

    Raises:
        ACFunError: the range ends before it starts.
    """

    start: float = 0.0
    """Share of sampling after which the adapters act, 0 to 1."""
    end: float = 1.0
    """Share of sampling after which they stop, 0 to 1."""
    ease: str = CONSTANT
    """How the strength changes over that range; one of ``EASES``."""
    applies_to: str = BOTH
    """Under which prompts; one of ``APPLIES_TO``."""

    def __post_init__(self) -> None:
        if self.start > self.end:
            raise ACFunError(
                "start_percent ({start:g}) is after end_percent ({end:g}), so the adapters "
                "would never act. Swap them.",
                start=self.start,
                end=self.end,
            )

    def is_in_range(self, sigma: float, sampling: Any) -> bool:
        """Tell whether a sigma lies in the range; arguments as in :meth:`strength_at`."""
        if (self.start, self.end) == (0.0, 1.0):
            return True
        first, last = map(sampling.percent_to_sigma, (self.start, self.end))
        return bool(last <= sigma <= first)

    def strength_at(self, sigma: float, sampling: Any, span: tuple[float, float] = WHOLE) -> float:
        """Return how strongly the adapters act at a sigma, 0 to 1.

        Args:
            sigma: the noise level.
            sampling: ComfyUI's ``model_sampling``, which turns shares of sampling into sigmas.
            span: of :func:`span_of`, the part of the schedule that is sampled.
        """
        if not self.is_in_range(sigma, sampling):
            return 0.0
        if self.ease == CONSTANT:
            return 1.0
        first, last = max(self.start, span[0]), min(self.end, span[1])
        over = (_percent_at(sigma, sampling) - first) / max(last - first, 1e-6)
        return _EASES[self.ease](min(max(over, 0.0), 1.0))

    def strengths_in(
        self, sigmas: Sequence[float], sampling: Any, span: tuple[float, float]
    ) -> list[float]:
        """Return the strength at each sigma within the range; see :meth:`strength_at`."""
        within = [sigma for sigma in sigmas if self.is_in_range(sigma, sampling)]
        return [self.strength_at(sigma, sampling, span) for sigma in within]


def span_of(sigmas: Sequence[float], sampling: Any) -> tuple[float, float]:
    """Return the shares of the model's schedule at which a sampling starts and ends.

    With denoise below 1 it starts late.
    """
    return _percent_at(max(sigmas), sampling), _percent_at(min(sigmas), sampling)


def _percent_at(sigma: float, sampling: Any) -> float:
    """Return the share of sampling that is over at a sigma: percent_to_sigma the other way round.

    Found by bisection, since only some kinds of model sampling have a formula for it.
    """
    fall = bisect_left(
        range(_PERCENT_STEPS), -sigma, key=lambda p: -sampling.percent_to_sigma(p / _PERCENT_STEPS)
    )
    return fall / _PERCENT_STEPS
