"""What is run on what: a model with its pairs and figures, and the rows of the table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone

from .pairs import Drawn, Method, Pair, Sampling


@dataclass(frozen=True)
class Figure:
    """One number about what a method drew of a pair.

    name: its key. heading: of its column. better: which way is better. about: what it counts
    towards in the overall rank, if anything.
    """

    name: str
    heading: str
    better: Literal["higher", "lower"]
    about: Literal["face", "style", ""] = ""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A model, what it is to draw, and how that is measured.

    name: names the folder of results. backbone: the model; every process opens its own. pairs: all
    of them. figures: what is measured. measure: maps a pair's index and what was drawn, as 8-bit
    pictures, to one finite number per figure. truths: the right answer ``(s, s, 3)`` of each pair,
    where it is known.
    """

    name: str
    backbone: DiffusersBackbone
    pairs: Sequence[Pair]
    figures: Sequence[Figure]
    measure: Callable[[int, Drawn], dict[str, float]]
    truths: Sequence[Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table: a method at a budget.

    name: unique. steps: of the optimiser, for methods that learn. pairs: how many of the bench's
    pairs, from the first on; None takes all. samples: drawn per pair and prompt.
    """

    name: str
    method: Method
    steps: int
    sampling: Sampling = field(default=Sampling())
    pairs: int | None = None
    samples: int = 4

    def pair_indices(self, bench: Bench) -> range:
        """Return the indices of the pairs that the row is run on."""
        count = len(bench.pairs)
        return range(count if self.pairs is None else min(self.pairs, count))


@dataclass(frozen=True)
class Expectation:
    """That a row's figure is higher (or lower) than another row's, and why one would think so."""

    text: str
    row: str
    figure: str
    is_: Literal["higher", "lower"]
    than: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report: rows that belong together.

    reference: the row that the others are compared with, pair by pair. is_ranked: whether these
    are rivals, to be ranked overall by their figures about face and style. votes: what a user study
    found, by row and by what was asked about ("" is overall), in %; the shares of pairs on which
    each row is the best are then set beside it. absent: rows that have not been run yet.
    """

    title: str
    rows: Sequence[Row]
    reference: str
    expectations: Sequence[Expectation] = ()
    is_ranked: bool = False
    votes: Mapping[str, Mapping[str, float]] | None = None
    absent: Sequence[str] = ()


def rows_of(sections: Sequence[Section]) -> list[Row]:
    """Return the rows of all sections, each once.

    Raises:
        ValueError: two different rows have the same name, or a section names a row it lacks.
    """
    rows: dict[str, Row] = {}
    for section in sections:
        for row in section.rows:
            if rows.setdefault(row.name, row) != row:
                raise ValueError(f"two different rows are called '{row.name}'")
        named = {section.reference}
        for expectation in section.expectations:
            named |= {expectation.row, expectation.than}
        missing = named - {row.name for row in section.rows}
        if missing:
            raise ValueError(f"section '{section.title}' lacks its row {sorted(missing)[0]!r}")
    return list(rows.values())


def description(method: Method) -> dict[str, Any]:
    """Return all that defines a method, as JSON takes it."""
    return {"method": type(method).__name__, **asdict(method)}  # type: ignore[call-overload]
