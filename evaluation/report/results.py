"""The figures of all runs: means with bootstrap intervals over pairs, differences and ranks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..benchmark import Bench, Section
from ..runs import Run

Numbers = NDArray[np.float64]
Verdict = Literal["found", "not found", "within the interval"]

RESAMPLES = 10_000
SEED = 0
COVERAGE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[float] | Numbers) -> Interval:
    """Return the mean over two or more pairs, and its bootstrap interval (Efron, 1979)."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) < 2 or not np.isfinite(numbers).all():
        raise ValueError("an interval needs two or more finite values")
    return _interval(float(numbers.mean()), numbers[_draws(len(numbers))].mean(axis=1))


def mean_difference(
    values: Sequence[float] | Numbers, reference: Sequence[float] | Numbers
) -> Interval:
    """Return the mean difference, values less reference on the same pairs, and its interval."""
    ours, theirs = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    if ours.shape != theirs.shape:
        raise ValueError("a paired difference needs both rows on the same pairs")
    return bootstrap_mean(ours - theirs)


def verdict(difference: Interval, expected: Literal["higher", "lower"]) -> Verdict:
    """Say whether a paired difference lies on the expected side of zero.

    "found": the whole interval does. "not found": the whole interval is on the other side, or the
    difference is exactly zero throughout. Else zero is within the interval.
    """
    low, high = difference.low, difference.high
    if expected == "lower":
        low, high = -high, -low
    if low > 0:
        return "found"
    return "not found" if high < 0 or low == high == 0 else "within the interval"


def mean_ranks(
    figures: Mapping[str, Sequence[Numbers]],
    better: Sequence[Literal["higher", "lower"]],
    weights: Sequence[float],
) -> dict[str, Interval]:
    """Return each row's rank among the rows, averaged over figures; 1 is best.

    Rows are ranked by their means over the same pairs; the interval resamples the pairs of all rows
    together. Ties share the mean of their ranks. figures: by row, one ``(pairs,)`` array per
    figure. better: which way each is. weights: how much each counts.
    """
    values, shares = _costs(figures, better), np.asarray(weights) / np.sum(weights)
    draws = _draws(values.shape[-1])
    means = np.stack([values[..., draw].mean(axis=-1) for draw in draws])
    resampled = rankdata(means, axis=1) @ shares
    ranks = rankdata(values.mean(axis=-1), axis=0) @ shares
    return {
        row: _interval(float(rank), spread)
        for row, rank, spread in zip(figures, ranks, resampled.T, strict=True)
    }


def best_shares(
    figures: Mapping[str, Sequence[Numbers]],
    better: Sequence[Literal["higher", "lower"]],
    weights: Sequence[float],
) -> dict[str, Interval]:
    """Return on which share of the pairs each row has the lowest rank, see :func:`mean_ranks`."""
    shares = np.asarray(weights) / np.sum(weights)
    pairs = np.moveaxis(_costs(figures, better), -1, 0)
    ranks = (rankdata(pairs, axis=1) @ shares).T
    # Sums of shares differ in their last bits.
    first = np.isclose(ranks, ranks.min(axis=0))
    wins = first / first.sum(axis=0)
    return {row: bootstrap_mean(won) for row, won in zip(figures, wins, strict=True)}


def _costs(
    figures: Mapping[str, Sequence[Numbers]], better: Sequence[Literal["higher", "lower"]]
) -> Numbers:
    """Return figures ``(rows, figures, pairs)`` of which the lower is the better."""
    signs = np.array([-1.0 if way == "higher" else 1.0 for way in better])[:, None]
    return np.array([list(row) for row in figures.values()], dtype=np.float64) * signs


def _draws(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))


def _interval(mean: float, resampled: Numbers) -> Interval:
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


class Results:
    """The runs of all rows, each on two pairs or more."""

    def __init__(self, bench: Bench, runs: Sequence[Run]) -> None:
        self.bench = bench
        self.runs: dict[str, dict[int, Run]] = {}
        for run in runs:
            self.runs.setdefault(run.row, {})[run.pair] = run

    def values(self, row: str, figure: str, pairs: Sequence[int]) -> Numbers:
        """Return a row's figure ``(pairs,)``."""
        runs = self.runs[row]
        return np.array([runs[pair].figures[figure] for pair in pairs], dtype=np.float64)

    def mean(self, row: str, figure: str, pairs: Sequence[int]) -> Interval:
        """Return the mean of a row's figure over some pairs."""
        return bootstrap_mean(self.values(row, figure, pairs))

    def common_pairs(self, *rows: str) -> list[int]:
        """Return the pairs that all these rows were run on."""
        return sorted(set.intersection(*(set(self.runs[row]) for row in rows)))

    def section_pairs(self, section: Section) -> list[int]:
        """Return the pairs of all of a section's rows; elsewhere a row may have more."""
        return self.common_pairs(*(row.name for row in section.rows))

    def difference(self, row: str, than: str, figure: str, pairs: Sequence[int]) -> Interval:
        """Return how much higher a row's figure is than another's on some pairs, pair by pair."""
        return mean_difference(self.values(row, figure, pairs), self.values(than, figure, pairs))

    def ranks(self, section: Section) -> dict[str, Interval]:
        """Return the overall rank of a section's rows: half for the face, half for the style."""
        return mean_ranks(*self._rank_arguments(section, ("face", "style")))

    def wins(self, section: Section, about: Sequence[str]) -> dict[str, Interval]:
        """Return the share of pairs on which each row is best in figures about face or style."""
        return best_shares(*self._rank_arguments(section, about))

    def _rank_arguments(
        self, section: Section, about: Sequence[str]
    ) -> tuple[dict[str, list[Numbers]], list[Literal["higher", "lower"]], list[float]]:
        names, pairs = [row.name for row in section.rows], self.section_pairs(section)
        figures = [figure for figure in self.bench.figures if figure.about in about]
        sides = Counter(figure.about for figure in figures)
        return (
            {name: [self.values(name, f.name, pairs) for f in figures] for name in names},
            [figure.better for figure in figures],
            # A face told by many figures must not outweigh a style told by few.
            [1 / sides[figure.about] for figure in figures],
        )

    @property
    def machines(self) -> dict[str, int]:
        """How many runs were made on each machine, the most first; what rows share counts once."""
        runs = {run.folder: run for row in self.runs.values() for run in row.values()}
        return dict(Counter(run.machine for run in runs.values()).most_common())

    def runs_by_machine(self, row: str) -> dict[str, int]:
        """Return how many of a row's runs were made on each machine."""
        return dict(Counter(run.machine for run in self.runs[row].values()).most_common())

    def seconds(self, row: str) -> dict[str, float]:
        """Return a row's mean time per pair, learning and drawing, on each machine."""
        runs = self.runs[row].values()
        return {
            machine: float(np.mean([run.seconds for run in runs if run.machine == machine]))
            for machine in self.runs_by_machine(row)
        }
