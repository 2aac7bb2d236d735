"""Choosing settings on the small prior: other people and styles than those of the table."""

import argparse
from dataclasses import replace
from functools import partial

from benchmarks.nano.held_out import tuning_pair

from .bench import Bench, Section
from .design_choices import learning_rates
from .jobs import OpenBench
from .nano import bench_of, prior_setting

PAIRS = 14


def opener(options: argparse.Namespace) -> OpenBench:
    """Return what opens the bench in any process."""
    return partial(open_bench, options.pairs, options.device)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how many pairs there are")
    parser.add_argument("--device", default="cpu", help="what the model computes on, as cuda")


def sections(options: argparse.Namespace) -> list[Section]:
    """Return the rows of which one is chosen."""
    return [learning_rates(replace(prior_setting(), ablation_pairs=None))]


def open_bench(pairs: int, device: str = "cpu") -> Bench:
    """Return the bench of the pairs to choose settings on."""
    return bench_of("tuning", [tuning_pair(number) for number in range(pairs)], device)
