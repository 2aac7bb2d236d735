"""The evaluation on a small transformer in the U-Net's place: what its halves do."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from .benchmark import Bench, Expectation, Section
from .runner import OpenBench
from .sections.rows import ABLATION_PAIRS, OUR_METHOD, OUR_ROW, OURS, make_row
from .toy import PRIOR
from .toy.gate.transformer import STATE, TransformerBackbone
from .toy_benchmark import open_bench as open_toy


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--pairs", type=int, default=ABLATION_PAIRS, help="how many pairs")
    parser.add_argument(
        "--state",
        type=Path,
        default=STATE,
        help="what the transformer's lessons left, see evaluation/toy/README.md",
    )


def opener(options: argparse.Namespace) -> OpenBench:
    """Return what opens the bench in any process."""
    return partial(open_bench, options.state, options.pairs)


def open_bench(state: Path, pairs: int) -> Bench:
    """Load the prior with the transformer, and make the pairs of the U-Net's table."""
    bench = open_toy(pairs)
    return replace(bench, name="transformer", backbone=TransformerBackbone(PRIOR, state))


def sections(options: argparse.Namespace) -> list[Section]:
    """Return the one section: parts trained alone; early and late blocks are decoder and encoder.

    See ``injection.parts_of`` for these names.
    """
    alone, cfun, early, late = "AFun alone", "CFun alone", "AFun + early", "AFun + late"
    rows = {
        alone: replace(OUR_METHOD, parts=("abstract",)),
        cfun: replace(OUR_METHOD, parts=("encoder", "decoder")),
        early: replace(OUR_METHOD, parts=("abstract", "decoder")),
        late: replace(OUR_METHOD, parts=("abstract", "encoder")),
    }
    return [
        Section(
            title="Halves of a transformer",
            rows=[OUR_ROW, *(make_row(*row) for row in rows.items())],
            reference=OURS,
            expectations=[
                Expectation("AFun alone has no face", alone, "face", "lower", OURS),
                Expectation("CFun in early blocks adds the face", early, "face", "higher", alone),
                Expectation("CFun in late blocks adds texture", late, "texture", "lower", alone),
                Expectation("AFun adds to CFun", OURS, "truth", "lower", cfun),
            ],
        )
    ]
