"""Pairs of made-up pictures, and a bench of them on the tiny backbone that any process can open."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from tiny_backbone import TinyBackbone
from torch import Tensor

from acfun_ops.file_io import write_whole
from evaluation.benchmark import (
    Bench,
    Figure,
    Images,
    LearnsOnce,
    Method,
    MethodResult,
    Pair,
    Task,
)

FIGURES = (
    Figure("face", "face", "higher", "face"),
    Figure("texture", "texture", "lower", "style"),
)


def drawn_pair(number: int, prompt: str = "a painting of a woman in S* style") -> Pair:
    """Return a pair whose pictures are waves, other ones for each number."""
    return Pair(
        name=f"pair_{number}",
        style=_waves(3 + number),
        face=_waves(11 + number),
        prompt=prompt,
        face_words="a woman",
        style_words="an oil painting",
        other_prompt="a painting of a woman wearing a hat in S* style",
    )


def open_tiny_bench(pairs: int = 2) -> Bench:
    """Return a bench whose figures are plain means, so that they can be foretold."""

    def measure(index: int, drawn: MethodResult) -> dict[str, float]:
        return {"face": float(drawn.samples.mean()), "texture": float(drawn.other.mean())}

    return Bench(
        name="tiny",
        backbone=TinyBackbone(),
        pairs=[drawn_pair(number) for number in range(pairs)],
        figures=FIGURES,
        measure=measure,
    )


@dataclass(frozen=True, kw_only=True)
class Shift(Method):
    """A method that learns the style's mean and draws noise around it; notes its calls in a log."""

    log: str
    amount: float = 0.0

    def training_key(self) -> "Shift":
        return Shift(log=self.log)

    def learn(self, backbone: TinyBackbone, pair: Pair, steps: int, path: Path) -> None:
        self._note(f"learn {pair.name} {steps}")
        write_whole(str(float(pair.style.mean())).encode(), path, "mean")

    def generate(self, task: Task) -> Images:
        self._note(f"draw {task.pair.name} {self.amount}")
        learnt = float(task.learnt.read_text())
        samples = learnt + self.amount + task.backbone.decode_latents(task.noise) / 10
        return samples, samples / 2

    def _note(self, line: str) -> None:
        with Path(self.log).open("a") as file:
            file.write(line + "\n")


@dataclass(frozen=True, kw_only=True)
class Broken(Shift):
    """Cannot learn from the first pair."""

    def training_key(self):
        return self

    def learn(self, backbone, pair, steps, path):
        if pair.name == "pair_0":
            raise ValueError("broken")
        super().learn(backbone, pair, steps, path)


@dataclass(frozen=True, kw_only=True)
class Dying(Shift):
    """Ends the process that learns."""

    def training_key(self):
        return self

    def learn(self, backbone, pair, steps, path):
        os._exit(1)


@dataclass(frozen=True, kw_only=True)
class ShiftForAll(Shift, LearnsOnce):
    """A method that learns one number for all pairs; notes its calls in a log."""

    def training_key(self) -> "ShiftForAll":
        return ShiftForAll(log=self.log)

    def learn(self, backbone: TinyBackbone, pair: Pair, steps: int, path: Path) -> None:
        self._note(f"learn {steps}")
        write_whole(b"0.5", path, "number")


def _waves(frequency: int) -> Tensor:
    at = torch.linspace(0, 2 * math.pi, 64)
    planes = [
        torch.sin(frequency * at)[:, None] * torch.cos((frequency % 5 + c) * at) for c in range(3)
    ]
    return torch.stack(planes, dim=-1) / 2 + 0.5
