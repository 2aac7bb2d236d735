"""Choosing settings on the small prior: other people and styles than those of the table."""

import argparse
from dataclasses import replace
from functools import partial

from evaluation.toy.evaluation_pairs import tuning_pair

from . import toy_benchmark as nano
from .benchmark import Bench, Section
from .runner import OpenBench
from .sections.design_choices import learning_rates

PAIRS = 14


def opener(options: argparse.Namespace) -> OpenBench:
    """Return what opens the bench in any process."""
    return partial(open_bench, options.pairs, options.device)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    nano.add_options(parser)
    parser.set_defaults(pairs=PAIRS)


def sections(options: argparse.Namespace) -> list[Section]:
    """Return the rows of which one is chosen."""
    return [learning_rates(replace(nano.prior_setting(), ablation_pairs=None))]


def open_bench(pairs: int, device: str = "cpu") -> Bench:
    """Return the bench of the pairs to choose settings on."""
    return nano.bench_of("tuning", [tuning_pair(number) for number in range(pairs)], device)
