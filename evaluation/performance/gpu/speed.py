"""How fast training and styled sampling are on a GPU, as ratios to what a user knows."""

import math
import time
from functools import cache

import torch

from ..loaded import Loaded
from ..speed import sampling_figures, training_figures
from .models import Models
from .rows import Result, row

SAMPLING_STEPS = 10


@row("speed", "training of 150 steps", "finite")
def time_default_run(models: Models) -> Result:
    """Train by the node with its defaults; return seconds, and whether all numbers are finite."""
    began = time.time()
    style, losses = models.train(steps=models.scale.steps(150), preview_every=50)
    seconds = time.time() - began
    states = [style.abstract, *style.concrete.values()]
    tensors = [tensor for state in states for tensor in state.values()]
    return {
        "seconds": round(seconds, 1),
        "steps": len(losses),
        "finite": all(map(math.isfinite, losses)) and all(torch.isfinite(t).all() for t in tensors),
        "first and last loss": [round(losses[0], 4), round(losses[-1], 4)],
        "precision": style.facts.settings["precision"],
        "the node said": list(models.nodes.texts),
    }


@row("speed", "speed of a training step")
def time_training(models: Models) -> Result:
    """Return a training step over plain forward passes, and Train LoRA's step over ours."""
    return _round(training_figures(_load(models)))


@row("speed", "speed of sampling")
def time_sampling(models: Models) -> Result:
    """Return sampling with both Apply nodes over plain sampling, and what applying costs."""
    return _round(sampling_figures(_load(models)))


@cache
def _load(models: Models) -> Loaded:
    steps = 3 if models.scale.is_small else SAMPLING_STEPS
    return Loaded(models, models.side, steps)


def _round(figures: dict[str, float]) -> Result:
    return {name: float(f"{value:.4g}") for name, value in figures.items()}
