"""The command: ``python -m evaluation nano`` and ``... real``.

A benchmark is a module of this folder with ``add_options(parser)``, ``opener(options)`` and
``sections(options)``; only the one that is named is loaded.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from types import ModuleType

from acfun_ops.errors import ACFunError

from .command import add_options, evaluate

BENCHMARKS = {
    "nano": "drawn portraits on the small prior, with known answers",
    "tuning": "the same with other people and styles, to choose settings on",
    "real": "photos and paintings on any diffusers folder",
}
MODULES = {"nano": "toy_benchmark", "tuning": "tuning", "real": "real_benchmark"}


def main() -> None:
    """Run the benchmark that the command line names."""
    arguments = sys.argv[1:]
    options = parser(arguments).parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    benchmark = _module(options.benchmark)
    try:
        evaluate(benchmark.opener(options), benchmark.sections(options), options)
    except ACFunError as error:
        sys.exit(str(error))


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line, with the options of the benchmark it names."""
    whole = argparse.ArgumentParser(
        prog="python -m evaluation", description="How good the stylized faces are."
    )
    kinds = whole.add_subparsers(dest="benchmark", required=True)
    for name, about in BENCHMARKS.items():
        kind = kinds.add_parser(name, help=about, description=about)
        if name in arguments[:1]:
            add_options(kind)
            _module(name).add_options(kind)
    return whole


def _module(name: str) -> ModuleType:
    return importlib.import_module(f".{MODULES[name]}", __package__)


if __name__ == "__main__":
    main()
