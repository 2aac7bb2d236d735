"""The full state of a training run, in a file of its own beside the style.

A style holds half-precision weights and no optimiser; with this file a run goes on as if it had
never stopped, to the same bytes. It is safetensors like the style and is only ever our own.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from ..style.whole_files import FileKind, read_safetensors, write_whole

STATE_FILE = FileKind(
    name="ACFun training state",
    key="acfun_training",
    max_bytes=4096 * 2**20,
    remedy="Delete it; training then goes on from the style's weights alone.",
)


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Where a training run stands.

    run: names the run; equal for the same pictures, settings and checkpoint. step: optimiser steps
    done. weights: float32 trainables by name. moments: AdamW's state, ``<parameter>.exp_avg``,
    ``.exp_avg_sq`` and ``.step``. generator: state of the random generator, uint8. losses:
    ``(step,)`` float64. scaler: fp16 loss scale and growth count, empty otherwise. kept: tensors
    that last longer than a step: the encoded prompt and I_i of the reading ``imagery``.
    """

    run: str
    step: int
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    generator: Tensor
    losses: Tensor
    scaler: dict[str, float]
    kept: dict[str, Tensor]


def save_state(state: TrainState, path: Path) -> None:
    """Write a training state in one go.

    Raises:
        ACFunError: the folder cannot be written or the disk is full.
    """
    tensors = {f"weights.{name}": tensor for name, tensor in state.weights.items()}
    tensors |= {f"moments.{name}": tensor for name, tensor in state.moments.items()}
    tensors |= {"generator": state.generator, "losses": state.losses}
    tensors |= {f"kept.{name}": tensor for name, tensor in state.kept.items()}
    facts = {"run": state.run, "step": state.step, "scaler": state.scaler}
    metadata = {STATE_FILE.key: json.dumps(facts, sort_keys=True)}
    whole = save({name: t.cpu().contiguous() for name, t in tensors.items()}, metadata)
    write_whole(whole, path, "training state")


def load_state(path: Path) -> TrainState:
    """Read a training state.

    Raises:
        ACFunError: the file is missing, damaged or foreign.
    """
    tensors, facts = read_safetensors(path, STATE_FILE)
    run, step, scaler = facts.get("run"), facts.get("step"), facts.get("scaler")
    good = isinstance(run, str) and isinstance(step, int) and isinstance(scaler, dict)
    if not good or not {"generator", "losses"} <= tensors.keys():
        raise STATE_FILE.damaged(path, "parts are missing")

    def under(prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    return TrainState(
        run=str(run),
        step=int(step or 0),
        weights=under("weights."),
        moments=under("moments."),
        generator=tensors["generator"],
        losses=tensors["losses"],
        scaler=dict(scaler or {}),
        kept=under("kept."),
    )
