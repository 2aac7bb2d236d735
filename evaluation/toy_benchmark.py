"""The evaluation on the small prior: unseen people, unseen styles, and true answers."""

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import load_pipeline
from evaluation.toy import PRIOR
from evaluation.toy.captions import describe
from evaluation.toy.evaluation_pairs import HeldOutPair, make_pair, make_tuning_pair
from evaluation.toy.reader import Reader, attributes_of, identity, load_reader

from .benchmark import Bench, Figure, MethodResult, Pair, Section, prompt_of
from .metrics.image_statistics import (
    colour_distance,
    pixel_distance,
    structure_correlation,
    texture_distance,
    variety,
)
from .runner import OpenBench
from .sections import ablations, design_choices, references

PAIRS = {"nano": 40, "tuning": 14}
FIGURES = (
    Figure("face", "attributes of the face", "higher", "face"),
    Figure("rank1", "found among 20 others", "higher", "face"),
    Figure("landmarks", "landmarks off, in % of the picture", "lower", "face"),
    Figure("colour", "colours off", "lower", "style"),
    Figure("texture", "texture off", "lower", "style"),
    Figure("truth", "off the true answer", "lower"),
    Figure("structure", "layout of the true answer", "higher"),
    Figure("leak", "nearer to the sitter", "lower"),
    Figure("layout", "layout of the style picture", "lower"),
    Figure("variety", "variety", "higher"),
    Figure("prompt", "follows the prompt", "higher"),
    Figure("seam", "step where a face is spliced", "lower"),
)


def opener(options: argparse.Namespace) -> OpenBench:
    """Return what opens the bench in any process."""
    return partial(open_bench, options.pairs, options.device, options.benchmark)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--pairs", type=int, help="how many pairs there are; 40, or 14 of tuning")
    parser.add_argument("--device", default="cpu", help="what the model computes on, as cuda")


def sections(options: argparse.Namespace) -> list[Section]:
    """Return every section with the settings of this prior, or the rows to choose from."""
    if options.benchmark == "tuning":
        chosen = design_choices.learning_rates(), design_choices.softer_noise()
        # On all pairs, as everything is there.
        return [replace(s, rows=[replace(row, pairs=None) for row in s.rows]) for s in chosen]
    return [
        *ablations.all_sections(),
        design_choices.restyle_choices(),
        design_choices.design_choices(),
        design_choices.learning_rates(),
        references.papers_table(),
        references.face_splices(),
        references.reference_answers(),
    ]


def open_bench(count: int | None = None, device: str = "cpu", name: str = "nano") -> Bench:
    """Load the prior and the reader, and make the pairs; all noise is sampled on the CPU.

    Args:
        count: of pairs; None makes as many as the results have.
        device: what the model computes on.
        name: "nano", or "tuning" with other people and styles, to choose settings on.
    """
    # Convolutions in full single precision, as on the CPU.
    torch.backends.cudnn.allow_tf32 = False
    reader = load_reader()
    make = make_tuning_pair if name == "tuning" else make_pair
    pairs = [make(number) for number in range(count or PAIRS[name])]
    return Bench(
        name=name,
        backbone=load_pipeline(PRIOR, device=device),
        pairs=[_pair(one) for one in pairs],
        figures=FIGURES,
        measure=lambda index, result: measure(reader, pairs[index], result),
        truths=[torch.from_numpy(one.truth) for one in pairs],
    )


def _pair(one: HeldOutPair) -> Pair:
    extra: dict[str, Any] = {one.extra: True}
    words, other_words = map(describe, (one.person, replace(one.person, **extra)))
    return Pair(
        name=one.name,
        style=torch.from_numpy(one.style),
        face=torch.from_numpy(one.face),
        prompt=prompt_of(words),
        face_words=f"a {one.person.gender}",
        style_words=one.named.words,
        other_prompt=prompt_of(other_words),
        style_prompt=prompt_of(describe(one.sitter)),
        spliced=torch.from_numpy(one.spliced),
    )


def measure(reader: Reader, one: HeldOutPair, result: MethodResult) -> dict[str, float]:
    """Return every figure of what was generated for a pair."""
    samples = result.samples
    reading = reader.read(samples)
    true = attributes_of(one.person)
    right = [reading.attributes[group].argmax(dim=1) == value for group, value in true.items()]
    known = [one.truth, *one.distractors, one.sitter_truth]
    line_up = reader.read(torch.from_numpy(np.stack(known)))
    off = torch.cdist(identity(reading, reader.trust), identity(line_up, reader.trust))
    truth_landmarks = line_up.landmarks[:1]
    asked = reader.read(result.other).attributes[one.extra].argmax(dim=1) == 1
    images = list(samples.numpy())
    return {
        "face": _mean(torch.stack(right)),
        "rank1": _mean(off[:, :-1].argmin(dim=1) == 0),
        "landmarks": 100 * _mean((reading.landmarks - truth_landmarks).norm(dim=-1)),
        "colour": float(np.mean([colour_distance(p, one.style) for p in images])),
        "texture": float(np.mean([texture_distance(p, one.style) for p in images])),
        "truth": float(np.mean([pixel_distance(p, one.truth) for p in images])),
        "structure": float(np.mean([structure_correlation(p, one.truth) for p in images])),
        "leak": _mean(off[:, -1] < off[:, 0]),
        "layout": float(np.mean([structure_correlation(p, one.style) for p in images])),
        "variety": variety(images),
        "prompt": _mean(asked),
        "seam": seam_step(samples, one.seam),
    }


def seam_step(images: Tensor, seam: int) -> float:
    """Return how much more the middle of images changes across a row than in the rows around."""
    rows = images[:, seam - 5 : seam + 5, 20:44].diff(dim=1).abs().mean(dim=(2, 3))
    around = torch.cat([rows[:, :3], rows[:, 6:]], dim=1)
    return _mean(rows[:, 3:6].amax(dim=1) - around.mean(dim=1))


def _mean(values: Tensor) -> float:
    return float(values.float().mean())
