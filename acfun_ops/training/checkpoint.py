"""The full state of a training run, in a file of its own next to the style.

A style holds half-precision weights and no optimiser; with this file a run goes on as if it had
never stopped, to the same bytes. It is safetensors like the style and is only ever our own.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ..file_io import FileKind, read_safetensors, write_whole
from ..style.style import Style, StyleFacts
from .trainable_style import to_half

STATE_FILE = FileKind(
    name="ACFun training state",
    key="acfun_training",
    max_bytes=4096 * 2**20,
    remedy="Delete it; training then goes on from the style's weights alone.",
)

_GROUPS = ("weights", "moments", "kept")


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Where a training run stands."""

    run: str
    """Names the run; equal for the same pictures, settings and checkpoint."""
    step: int
    """Optimiser steps done."""
    weights: dict[str, Tensor]
    """Of the trainable style, float32, by name."""
    moments: dict[str, Tensor]
    """AdamW's state: ``<parameter>.exp_avg``, ``.exp_avg_sq`` and ``.step``."""
    generator: Tensor
    """State of the random generator, uint8."""
    losses: Tensor
    """``(step,)``, float64."""
    scaler: dict[str, float]
    """The fp16 loss scale and growth count; empty in other precisions."""
    kept: dict[str, Tensor]
    """What lasts longer than a step: the encoded prompt, and I_i of ``imagery`` and ``drawn``."""

    def belongs_to(self, style: Style) -> bool:
        """Tell whether it is the state that a style was written from.

        Runs of one name may differ in what no name holds, so run and step alone do not tell.
        """
        if (self.run, self.step) != (style.facts.run, style.facts.steps):
            return False
        written = {f"abstract.{name}": tensor for name, tensor in style.abstract.items()}
        written |= {f"vectors.{name}": tensor for name, tensor in style.vectors.items()}
        return all(
            torch.equal(to_half(self.weights[name]), tensor)
            for name, tensor in written.items()
            if name in self.weights  # What else is missing is told by who takes the state.
        )


def run_of(*parts: str) -> str:
    """Return the name of a run that is made of these parts, 16 hex digits."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def resume_metadata(new: StyleFacts, style: Style) -> tuple[StyleFacts, bool]:
    """Return the metadata of a run that goes on from a style, and whether it is the same run.

    Args:
        new: the facts of the run as if it started afresh.
        style: what it goes on from. A run of another name becomes a child of this style.
    """
    old = style.facts
    is_same = old.run == (run_of(new.run, old.parent) if old.parent else new.run)
    parent = old.parent if is_same else style.digest
    return replace(new, run=run_of(new.run, parent) if parent else new.run, parent=parent), is_same


def save_state(state: TrainState, path: Path) -> None:
    """Write a training state in one go.

    Raises:
        ACFunError: the folder cannot be written or the disk is full.
    """
    tensors = {"generator": state.generator, "losses": state.losses}
    for group in _GROUPS:
        tensors |= {f"{group}.{name}": t for name, t in getattr(state, group).items()}
    facts = {"run": state.run, "step": state.step, "scaler": state.scaler}
    metadata = {STATE_FILE.key: json.dumps(facts, sort_keys=True)}
    whole = save({name: t.cpu().contiguous() for name, t in tensors.items()}, metadata)
    write_whole(whole, path, "training state")


def load_state(path: Path) -> TrainState:
    """Read a training state.

    Raises:
        ACFunError: the file is missing, damaged or foreign.
    """
    tensors, facts, _ = read_safetensors(path, STATE_FILE)
    run, step, scaler = facts.get("run"), facts.get("step"), facts.get("scaler")
    good = isinstance(run, str) and isinstance(step, int) and isinstance(scaler, dict)
    if not good or not {"generator", "losses"} <= tensors.keys():
        raise STATE_FILE.damage(path, "parts are missing")
    groups: dict[str, dict[str, Tensor]] = {
        group: {n[len(group) + 1 :]: t for n, t in tensors.items() if n.startswith(f"{group}.")}
        for group in _GROUPS
    }
    return TrainState(
        run=str(run),
        step=int(step or 0),
        generator=tensors["generator"],
        losses=tensors["losses"],
        scaler=dict(scaler or {}),
        **groups,
    )
