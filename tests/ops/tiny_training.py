"""Short training runs on the tiny backbone, and a listener that keeps their events."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from tiny_backbone import TinyBackbone
from torch import Tensor

from acfun_ops.style.style import Style, style_bytes
from acfun_ops.training.checkpoint import TrainState
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.events import Event, SamplingEvent, StepEvent, TrainImages, TrainResult
from acfun_ops.training.fit import fit

# `staged` draws nothing before the first step, which would take longer than all six of them.
SMALL: dict[str, Any] = {
    "alignment": "staged",
    "steps": 6,
    "rank": 4,
    "layers": 1,
    "heads": 2,
    "dropout": 0.1,
    "learning_rate": 1e-2,
    "preview_every": 0,
}


class Recorder:
    """Keeps all events but sampling steps; asks to stop at a step or at the first of a kind."""

    def __init__(self, stop_at: int | None = None, stop_on: type | None = None) -> None:
        self.events: list[Event] = []
        self.stop_at, self.stop_on = stop_at, stop_on

    def __call__(self, event: Event) -> bool:
        if not isinstance(event, SamplingEvent):
            self.events.append(event)
        if self.stop_on is not None:
            return isinstance(event, self.stop_on)
        return isinstance(event, StepEvent) and event.step == self.stop_at

    def of(self, kind: type) -> list[Any]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def small_config(**changes: Any) -> TrainConfig:
    """Return a configuration that trains in milliseconds."""
    return TrainConfig(**(SMALL | changes))


def tiny_pictures(
    seed: int = 1, styles: int = 1, faces: int = 1, masked: bool = False
) -> TrainImages:
    """Return random pictures, smooth enough to differ in colour; faces are not square."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int, height: int, width: int) -> Tensor:
        coarse = torch.rand(count, 3, 4, 4, generator=generator)
        fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        return fine.movedim(1, -1).contiguous()

    mask = torch.rand(faces, 80, 64, generator=generator) if masked else None
    return TrainImages(style=draw(styles, 64, 64), face=draw(faces, 80, 64), face_mask=mask)


def run(
    config: TrainConfig,
    backbone: TinyBackbone | None = None,
    pictures: TrainImages | None = None,
    on_event: Callable[[Event], bool] = lambda event: False,
    resume: tuple[Style, TrainState | None] | None = None,
) -> TrainResult:
    """Train on a fresh tiny backbone and the default pair unless told otherwise."""
    backbone = backbone or TinyBackbone()
    return fit(backbone, pictures or tiny_pictures(), config, on_event, resume)


@cache
def trained(config: TrainConfig) -> TrainResult:
    """Return the result of an undisturbed run on the default pair."""
    return run(config)


@cache
def cancelled(config: TrainConfig, step: int) -> TrainResult:
    """Return the result of a run on the default pair that is stopped at a step."""
    return run(config, on_event=Recorder(stop_at=step))


def trained_bytes(config: TrainConfig) -> bytes:
    """Return the bytes of the style that an undisturbed run on the default pair ends with."""
    return style_bytes(trained(config).style)
