"""What goes into a training run, what it tells on the way, and what it leaves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..images import Pictures
from ..style.style import Style
from .checkpoint import TrainState

Outcome = Literal["finished", "cancelled", "diverged", "out of memory"]

MESSAGES: dict[Outcome, str] = {
    "finished": "Trained {step} steps.",
    "cancelled": "Stopped after step {step} of {total}.",
    "out of memory": "Out of memory in the step after {step} of {total}. Lower resolution, turn "
    "gradient_checkpointing on, or close other programs that use the GPU.",
    "diverged": "The loss is not finite any more; the weights of step {step} are kept. Lower "
    "learning_rate (halve it), or set precision to bf16 or fp32.",
}
OVERFLOWED = (
    "The gradient overflows fp16 in every step; the weights of step {step} are kept. Set precision "
    "to bf16 or fp32, which do not overflow."
)


@dataclass(frozen=True, kw_only=True)
class TrainPictures:
    """What is trained on: pictures ``(b, h, w, c)`` in [0, 1] of any size, see ``images``.

    Each may also be a sequence of such batches.
    """

    style: Pictures
    """One or more style pictures."""
    face: Pictures
    """One or more photos of one face."""
    face_mask: Pictures | None = None
    """``(h, w)`` or ``(b, h, w)`` in [0, 1], white where the face counts."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training run leaves, however it ended."""

    style: Style
    """The last good weights."""
    state: TrainState | None
    """Lets the run go on; None where only the weights are whole, as after a diverged run."""
    losses: list[float]
    """One per step of the run, as far as it is known."""
    outcome: Outcome
    """How it ended."""
    message: str
    """What happened and what to do, for the user."""


@dataclass(frozen=True)
class StepEvent:
    """One optimiser step is done."""

    step: int
    """Steps done, from 1."""
    total: int
    """Steps of the whole run."""
    loss: float
    """Of this step; finite."""
    snapshot: Callable[[], TrainResult]
    """Returns the run's result so far, also later on."""


@dataclass(frozen=True)
class PreviewEvent:
    """A picture was drawn with the style as it is."""

    step: int
    """Optimiser steps done."""
    picture: Tensor
    """``(1, s, s, 3)`` in [0, 1], on the CPU."""


@dataclass(frozen=True)
class SamplingEvent:
    """One sampling step of a preview, or of an I_i of ``imagery``, is done."""


@dataclass(frozen=True)
class RedrawingEvent(SamplingEvent):
    """One sampling step of the faces of ``drawn`` is done, before the first step of training."""

    step: int
    """Steps done, from 1."""
    total: int
    """Steps for all faces."""


@dataclass(frozen=True)
class NoticeEvent:
    """There is something that the user should know."""

    text: str
    """A sentence or two."""


Event = StepEvent | PreviewEvent | SamplingEvent | NoticeEvent
OnEvent = Callable[[Event], bool]
"""Is told of every event; True, but after a notice, stops training and keeps what there is."""
