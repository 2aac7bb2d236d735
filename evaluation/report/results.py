"""The figures of all runs: means, paired differences, ranks and what was expected of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..benchmark import Bench, Section
from ..runs import Run
from .intervals import (
    Interval,
    Numbers,
    best_shares,
    bootstrap_mean,
    mean_difference,
    mean_ranks,
)


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
