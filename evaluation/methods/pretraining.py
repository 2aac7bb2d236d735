"""What is taught once, on drawings that the prior was taught on, and then serves every pair."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from evaluation.toy.drawings import COUNT, SEED, Drawings, draw_set, load_drawings, save_drawings

DRAWINGS = 12_000
WARM_UP = 50
SAVE_SECONDS = 120.0
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Teaching:
    """steps: of the optimiser. learning_rate: its highest; it falls to nothing. seed: of it all."""

    steps: int
    learning_rate: float
    seed: int = 0


def first_drawings(folder: Path, count: int = DRAWINGS, workers: int = 1) -> Drawings:
    """Return the first drawings of the prior's training set, drawn once and kept in a folder.

    None of them is of a held-out style or family, as none of the training set is.

    Args:
        folder: is made if it is missing.
        count: how many.
        workers: processes that draw them together; the same ones, however many.
    """
    path = folder / f"drawings-{count}.npz"
    if path.exists():
        return load_drawings(path)
    drawings = draw_set(COUNT, SEED, workers, first=count)
    save_drawings(drawings, path)
    return drawings


def teach(
    parameters: Sequence[Tensor],
    loss: Callable[[torch.Generator], Tensor],
    teaching: Teaching,
    path: Path,
) -> None:
    """Move parameters by AdamW along the loss of batches; go on where an earlier call was cut off.

    Each step draws from a generator of its own, so a teaching that was cut off ends as one that
    was not.

    Args:
        parameters: are moved in place.
        loss: of a batch that it draws by the generator, a scalar.
        teaching: how long and how.
        path: of what is learnt; state and log lie beside it, under other endings.
    """
    optimizer = torch.optim.AdamW(parameters, lr=teaching.learning_rate, weight_decay=0.01)
    state, lines = path.with_suffix(".state"), path.with_suffix(".log")
    path.parent.mkdir(parents=True, exist_ok=True)
    first, before = _resumed(parameters, optimizer, state)
    start = saved = time.perf_counter()
    recent: list[float] = []
    for step in range(first, teaching.steps):
        for group in optimizer.param_groups:
            group["lr"] = teaching.learning_rate * _rate(step, teaching.steps)
        generator = torch.Generator().manual_seed(teaching.seed * 1_000_003 + step)
        lost = loss(generator)
        optimizer.zero_grad()
        torch.autograd.backward(lost)
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        recent.append(float(lost.detach()))
        now = time.perf_counter()
        if now - saved > SAVE_SECONDS or step + 1 == teaching.steps:
            seconds, saved = before + now - start, now
            with lines.open("a", encoding="utf-8") as file:
                mean = sum(recent) / len(recent)
                file.write(f"step {step + 1}: mean loss {mean:.4f}; {seconds:.0f} s\n")
            recent = []
            _save(parameters, optimizer, step + 1, seconds, state)


def _rate(step: int, steps: int) -> float:
    return min(1, (step + 1) / WARM_UP) * math.cos(step / steps * math.pi / 2) ** 2


def _save(
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
    path: Path,
) -> None:
    written = path.with_suffix(".new")
    state = {
        "parameters": [parameter.detach() for parameter in parameters],
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    torch.save(state, written)
    written.replace(path)


def _resumed(
    parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer, path: Path
) -> tuple[int, float]:
    """Return the step to go on at, and the seconds that were spent before."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for parameter, kept in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(kept)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])
