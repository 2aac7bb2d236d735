"""The command: ``python -m evaluation nano`` and ``... real``.

A benchmark has ``add_options(parser)``, ``opener(options)`` and ``sections(options)``; only the
module of the one that is named is loaded.
"""

import argparse
import importlib
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from acfun_ops.errors import ACFunError

from .benchmark import Bench, Row, Section, rows_of, select_sections
from .report.render import FIGURES, write_report
from .runner import GRACE, OpenBench, measure_again, run_rows
from .runs import RESULTS, WORK, Run, take_published

BENCHMARKS = {
    "nano": "drawn portraits on the small prior, with known answers",
    "tuning": "the same with other people and styles, to choose settings on",
    "real": "photos and paintings on any diffusers folder",
}
MODULES = {"nano": "toy_benchmark", "tuning": "toy_benchmark:Tuning", "real": "real_benchmark"}
log = logging.getLogger(__name__)


def main() -> None:
    """Run the benchmark that the command line names."""
    arguments = sys.argv[1:]
    options = parser(arguments).parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    benchmark = _benchmark(options.benchmark)
    try:
        evaluate(benchmark.opener(options), benchmark.sections(options), options)
    except ACFunError as error:
        sys.exit(str(error))


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line, with the options of the benchmark it names."""
    parent = argparse.ArgumentParser(
        prog="python -m evaluation", description="How good the stylized faces are."
    )
    kinds = parent.add_subparsers(dest="benchmark", required=True)
    for name, about in BENCHMARKS.items():
        kind = kinds.add_parser(name, help=about, description=about)
        if name in arguments[:1]:
            add_options(kind)
            _benchmark(name).add_options(kind)
    return parent


def _benchmark(name: str) -> Any:
    module, _, attribute = MODULES[name].partition(":")
    benchmark = importlib.import_module(f".{module}", __package__)
    return getattr(benchmark, attribute) if attribute else benchmark


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all benchmarks share."""
    parser.add_argument(
        "--work", type=Path, default=WORK, help="where runs are stored; an interrupted one goes on"
    )
    parser.add_argument("--results", type=Path, help="where the report goes")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help=f"begin nothing after so long; several workers stop within {GRACE:.0f} s of it, and "
        "rows that are complete are reported",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="TITLE", help="run these sections alone"
    )
    parser.add_argument(
        "--measure-again", action="store_true", help="compute all figures anew from the images"
    )


def evaluate(
    open_bench: OpenBench, sections: Sequence[Section], options: argparse.Namespace
) -> None:
    """Run what is missing of some sections and write their report.

    Args:
        open_bench: see :func:`run_rows`.
        sections: of which ``options.only`` chooses.
        options: of :func:`add_options`.

    Raises:
        ValueError: an expectation names a figure that the bench does not measure.
    """
    picked = select_sections(sections, options.only)
    bench = open_bench()
    check_figures(picked, [figure.name for figure in bench.figures])
    rows = rows_of(picked)
    results = options.results or RESULTS / bench.name
    if options.measure_again:
        measure_again(open_bench, rows, options.work)
    else:
        take_published(bench, rows, results / FIGURES, options.work / bench.name)
    runs = run_rows(open_bench, rows, options.work, options.workers, 60 * options.minutes)
    there = sections_that_are_there(bench, picked, runs)
    missing = sorted(absent_rows(bench, rows, runs))
    if missing:
        total = sum(len(row.pair_indices(bench)) for row in rows)
        log.warning(
            "%d of %d runs are there; the same command goes on. Not reported: %s.",
            *(len(runs), total, ", ".join(missing)),
        )
    if there:
        for title in write_report(bench, there, runs, results):
            log.warning(
                "%s: its image stays, as some of what it shows was published and not run here.",
                title,
            )


def sections_that_are_there(
    bench: Bench, sections: Sequence[Section], runs: Sequence[Run]
) -> list[Section]:
    """Return the sections with those rows of which every run is there.

    A section is left out that lacks its reference, or all that it is compared with.
    """
    there = []
    for section in sections:
        absent = absent_rows(bench, section.rows, runs)
        rows = [row for row in section.rows if row.name not in absent]
        if section.reference not in absent and (len(rows) > 1 or not absent):
            expectations = [e for e in section.expectations if not {e.row, e.than} & set(absent)]
            there.append(replace(section, rows=rows, expectations=expectations, absent=absent))
    return there


def absent_rows(bench: Bench, rows: Sequence[Row], runs: Sequence[Run]) -> list[str]:
    """Return the names of the rows that lack a run."""
    there = {(run.row, run.pair) for run in runs}
    return [
        row.name
        for row in rows
        if not all((row.name, index) in there for index in row.pair_indices(bench))
    ]


def check_figures(sections: Sequence[Section], figures: Sequence[str]) -> None:
    """Refuse expectations about figures that are not measured, before hours are spent on them."""
    for section in sections:
        for expectation in section.expectations:
            if expectation.figure not in figures:
                raise ValueError(
                    f"section '{section.title}' expects something of '{expectation.figure}'; "
                    f"measured are {', '.join(figures)}"
                )


if __name__ == "__main__":
    main()
