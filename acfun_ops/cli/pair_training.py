"""Training one pair of a list: what it goes on from, and how it ended."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..backbones.backbone import Backbone
from ..backbones.diffusers_backbone import load_pipeline
from ..errors import ACFunError, is_out_of_memory
from ..style.style_file import load_style
from ..training.config import Precision
from ..training.run_files import part_at
from ..training.training_images import prepare_images
from .pair_list import Pair
from .pipeline import choose_device, choose_dtype
from .training_run import load_resumed, train_to_file

Outcome = Literal["finished", "done before", "stopped", "failed"]

_REPLACED = "Trained anew: the style that was there is of other pictures, settings or model."
_NO_MEMORY = (
    "Out of memory before the first step. Use a smaller resolution, or fewer trainings at once."
)


@dataclass(frozen=True)
class PipelineSource:
    """Where the model comes from, and where it computes."""

    model: Path
    """The folder of a diffusers pipeline."""
    image_encoder: Path | None
    """The folder of a CLIP vision model, where the pipeline has none."""
    device: str
    """Where it computes, as ``--device`` names it."""


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """How a pair's training ended."""

    outcome: Outcome
    """See ``Outcome``."""
    steps: int = 0
    """Optimiser steps in all."""
    seconds: float = 0.0
    """That this part took."""
    note: str = ""
    """For the user; empty if there is nothing to say."""


def train_pair(source: PipelineSource, pair: Pair) -> PairResult:
    """Train a pair, from its own last style if there is one, and save it.

    A mistake or a lack of memory is a result and not an error: the other pairs go on.
    """
    started = time.monotonic()
    try:
        backbone = _load_backbone(source, pair.config.precision)
        prepared = prepare_images(backbone, pair.pictures(), pair.config)
        part = part_at(pair.out, prepared.facts.run)
        resume = None if part is None else load_resumed(part)
        if resume is None and pair.out.exists():
            load_style(pair.out)  # What is no style is refused and not replaced.
        note = _REPLACED if part != pair.out and pair.out.exists() else ""
        result, _ = train_to_file(backbone, prepared, pair.config, pair.out, resume, part)
    except ACFunError as error:
        return PairResult(outcome="failed", note=str(error))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return PairResult(outcome="failed", note=_NO_MEMORY)
    stopped: Outcome = "stopped" if result.outcome == "cancelled" else "failed"
    finished = result.outcome == "finished"
    return PairResult(
        outcome="finished" if finished else stopped,
        steps=result.style.facts.steps,
        seconds=time.monotonic() - started,
        note=note if finished else result.message,
    )


def are_done(source: PipelineSource, pairs: Sequence[Pair]) -> list[bool]:
    """Tell of each pair whether a style of its run with all its steps is there already.

    Only the model can tell, because its weights are part of a run.
    """
    return [_is_done(source, pair) for pair in pairs]


def _is_done(source: PipelineSource, pair: Pair) -> bool:
    if not pair.out.exists():
        return False
    try:
        backbone = _load_backbone(source, pair.config.precision)
        found = load_style(pair.out).facts
        prepared = prepare_images(backbone, pair.pictures(), pair.config)
    except ACFunError:
        return False  # The training itself will say what is wrong.
    return found.run == prepared.facts.run and found.steps >= pair.config.steps


@lru_cache(maxsize=1)
def _load_backbone(source: PipelineSource, precision: Precision) -> Backbone:
    """Return the model, kept for the next pair of this process."""
    device = choose_device(source.device)
    dtype = choose_dtype(precision, device)
    return load_pipeline(source.model, source.image_encoder, device, dtype)
