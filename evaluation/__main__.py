"""The command: ``python -m evaluation nano`` and ``... real``.

A benchmark has ``add_options(parser)``, ``opener(options)`` and ``sections(options)``.
"""

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from acfun_ops.errors import ACFunError

from . import real_benchmark, real_try, toy_benchmark, transformer_benchmark
from .benchmark import Section, rows_of, select_sections
from .report.render import FIGURES, write_report
from .runner import OpenBench, measure_again, run_rows
from .runs import RESULTS, WORK, take_published

# The module, and what it is about.
BENCHMARKS = {
    "nano": (toy_benchmark, "drawn portraits on the small prior, with known answers"),
    "tuning": (toy_benchmark, "the same with other people and styles, to choose settings on"),
    "transformer": (transformer_benchmark, "the same on a small transformer in the prior's place"),
    "real": (
        real_benchmark,
        "photos and paintings on any diffusers folder; --try MODEL: ACFun alone, on one of each",
    ),
}
log = logging.getLogger(__name__)


def main() -> None:
    """Run the benchmark that the command line names."""
    arguments = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        if arguments[:1] == ["real"] and "--try" in arguments:
            real_try.main(arguments[1:])
            return
        options = parser().parse_args(arguments)
        benchmark, _ = BENCHMARKS[options.benchmark]
        evaluate(benchmark.opener(options), benchmark.sections(options), options)
    except ACFunError as error:
        sys.exit(str(error))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parent = argparse.ArgumentParser(
        prog="python -m evaluation", description="How good the stylized faces are."
    )
    kinds = parent.add_subparsers(dest="benchmark", required=True)
    for name, (benchmark, about) in BENCHMARKS.items():
        kind = kinds.add_parser(name, help=about, description=about)
        add_options(kind)
        benchmark.add_options(kind)
    return parent


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
        help="begin nothing after so long, and report the sections that are complete",
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
    """Run what is missing of the sections that ``options.only`` names and write their report."""
    picked = select_sections(sections, options.only)
    bench = open_bench()
    rows = rows_of(picked)
    results = options.results or RESULTS / bench.name
    if options.measure_again:
        measure_again(open_bench, rows, options.work)
    else:
        take_published(bench, rows, results / FIGURES, options.work / bench.name)
    runs = run_rows(open_bench, rows, options.work, options.workers, 60 * options.minutes)
    stored = {(run.row, run.pair) for run in runs}
    there = [
        section
        for section in picked
        if all((row.name, i) in stored for row in section.rows for i in row.pair_indices(bench))
    ]
    if missing := [section.title for section in picked if section not in there]:
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


if __name__ == "__main__":
    main()
