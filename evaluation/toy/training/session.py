"""A lesson: training for some minutes from the last lesson's weights, stopped at any time."""

import copy
import math
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

WARM_UP = 100
SAVE_SECONDS = 180.0
LOG_SECONDS = 60.0


@dataclass
class Course:
    """How long and how a lesson goes on.

    minutes: at most; a signal ends it sooner. learning_rate: its highest. anneal: whether the rate
    falls to nothing over the lesson. log: gets a line a minute. folder: gets the state every few
    minutes and at the end. seed: of the batches; another for each lesson.
    """

    name: str
    minutes: float
    learning_rate: float
    anneal: bool
    seed: int
    folder: Path
    log: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    stopped: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the lesson began."""
        return time.perf_counter() - self.started

    @property
    def progress(self) -> float:
        """0 at the start, 1 when the lesson is over."""
        return min(1.0, self.seconds / (60 * self.minutes))

    def note(self, text: str) -> None:
        """Write a line to the log."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{self.name}: {text}; {self.seconds:.0f} s\n")


@contextmanager
def stop_on_signals(course: Course) -> Iterator[None]:
    """End the lesson after the step in progress when the process is told to stop."""

    def stop(number: int, _: FrameType | None) -> None:
        course.stopped = True
        course.note(f"told to stop by {signal.Signals(number).name}")

    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def machine(device: torch.device) -> str:
    """Return on what a lesson runs: the GPU, or the processor and how many threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} processor, {torch.get_num_threads()} threads"


class Learner:
    """A model in training, its moving average, and their state in the lesson's folder.

    The model is trained in place and goes on from the folder's state. decay: of the average.
    """

    def __init__(self, model: nn.Module, course: Course, decay: float) -> None:
        self.model, self.course, self.decay = model, course, decay
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=course.learning_rate, weight_decay=0.01, betas=(0.9, 0.99)
        )
        self.steps = self.samples = 0
        self.samples_before = 0
        self._lost = torch.zeros((), device=course.device)
        self._counted, self._logged, self._saved = 0, 0.0, 0.0
        if self._state.exists():
            self._load()
        course.note(f"on {machine(course.device)}, {self.samples_before} samples seen before")

    @property
    def _state(self) -> Path:
        return self.course.folder / f"{self.course.name}.pt"

    def goes_on(self) -> bool:
        """Tell whether there is another step; write log and state when it is time."""
        course = self.course
        over = course.stopped or course.progress >= 1
        if self._counted and (over or course.seconds - self._logged > LOG_SECONDS):
            mean = float(self._lost) / self._counted
            seen = self.samples_before + self.samples
            course.note(f"mean loss {mean:.4f}, {self.samples} samples, {seen} in all")
            self._lost, self._counted = torch.zeros_like(self._lost), 0
            self._logged = course.seconds
        if over or course.seconds - self._saved > SAVE_SECONDS:
            self.save()
            self._saved = course.seconds
        return not over

    def step(self, loss: Tensor, samples: int) -> None:
        """Follow the gradient of the loss of some samples, and let the average follow."""
        rate = self.course.learning_rate * min(1, (self.steps + 1) / WARM_UP)
        if self.course.anneal:
            rate *= 0.01 + 0.99 * math.cos(self.course.progress * math.pi / 2) ** 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        self.samples += samples
        # A fresh average forgets the untrained weights soon; one that goes on is kept.
        since = self.steps + self.samples_before / samples
        decay = min(self.decay, (1 + since) / (10 + since))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.model.parameters()), 1 - decay
            )
        self._lost, self._counted = self._lost + loss.detach(), self._counted + 1

    def save(self) -> None:
        """Write the whole state, so that a lesson that is cut off loses a few minutes at most."""
        self.course.folder.mkdir(parents=True, exist_ok=True)
        written = self._state.with_suffix(".new")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "samples": self.samples_before + self.samples,
            },
            written,
        )
        written.replace(self._state)

    def _load(self) -> None:
        state = torch.load(self._state, map_location=self.course.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.samples_before = int(state["samples"])
