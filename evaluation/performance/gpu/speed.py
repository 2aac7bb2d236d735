"""How fast trainings and styled sampling are on a card, as ratios to what a user knows."""

import math
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from .models import Place
from .rows import Result, Row

SAMPLING_STEPS = 10


def rows(place: Place) -> list[Row]:
    """Return the rows of speed: a whole training, then ratios."""
    measured: dict[str, Any] = {}

    def loaded() -> Any:
        if "loaded" not in measured:
            small = place.scale.is_small
            steps = 3 if small else SAMPLING_STEPS
            measured["loaded"] = place.pack.Loaded(*place.sockets, place.side, steps)
        return measured["loaded"]

    return [
        Row("training of 150 steps", 60, lambda: whole_training(place), ("finite",)),
        Row("speed of a training step", 45, lambda: training(loaded())),
        Row("speed of sampling", 30, lambda: sampling(loaded(), Path(place.base.name))),
    ]


def whole_training(place: Place) -> Result:
    """Train by the node with its defaults; return seconds, and whether numbers stay finite."""
    from acfun_pack.acfun_ops.training.optimizer import Optimization

    skipped = []
    original = Optimization.backward

    def backward(self: Any, loss: Any) -> float | None:
        value = original(self, loss)
        if value is None:
            skipped.append(self.scaler.get_scale())
        return value

    began = time.time()
    with mock.patch.object(Optimization, "backward", backward):
        style, losses = place.train(steps=place.scale.steps(150), preview_every=50)
    seconds = time.time() - began
    states = [style.abstract, *style.concrete.values()]
    tensors = [tensor for state in states for tensor in state.values()]
    return {
        "seconds": round(seconds, 1),
        "steps": len(losses),
        "finite": all(map(math.isfinite, losses)) and all(torch.isfinite(t).all() for t in tensors),
        "first and last loss": [round(losses[0], 4), round(losses[-1], 4)],
        "steps done anew because fp16 overflowed": len(skipped),
        "precision": style.facts.settings["precision"],
        "the node said": list(place.nodes.texts),
    }


def training(loaded: Any) -> Result:
    """Return a step of ours against plain forward passes and against core's LoRA step."""
    from evaluation.performance import speed  # It brings ComfyUI, which must find its options set.

    return _rounded(speed.training_figures(loaded))


def sampling(loaded: Any, folder: Path) -> Result:
    """Return sampling with both Apply nodes against plain, and what applying costs."""
    from evaluation.performance import speed

    return _rounded(speed.sampling_figures(loaded, folder))


def _rounded(figures: dict[str, float]) -> Result:
    return {name: float(f"{value:.4g}") for name, value in figures.items()}
