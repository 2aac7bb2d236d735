"""Inputs, events and result of a training run, and the listener that saves it on the way."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..errors import ACFunError, first_line
from ..images import Images
from ..messages import Message
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
class TrainImages:
    """What is trained on: pictures ``(b, h, w, c)`` in [0, 1] of any size, see ``images``.

    Each may also be a sequence of such batches.
    """

    style: Images
    """One or more style pictures."""
    face: Images
    """One or more photos of one face."""
    face_mask: Images | None = None
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
    """A preview was generated with the style as it is."""

    step: int
    """Optimiser steps done."""
    picture: Tensor
    """``(1, s, s, 3)`` in [0, 1], on the CPU."""


@dataclass(frozen=True)
class SamplingEvent:
    """One sampling step of a preview, or of an I_i of ``imagery``, is done."""


@dataclass(frozen=True)
class RestylingEvent(SamplingEvent):
    """One sampling step of the faces of ``drawn`` is done, before the first step of training."""

    step: int
    """Steps done, from 1."""
    total: int
    """Steps for all faces."""


@dataclass(frozen=True)
class WarningEvent:
    """There is something that the user should know."""

    text: str
    """A sentence or two."""


Event = StepEvent | PreviewEvent | SamplingEvent | WarningEvent
OnEvent = Callable[[Event], bool]
"""Called with every event; True, but after a warning, stops training and saves what there is."""


class Reporter(ABC):
    """Shows the events of a training run, and saves its style every ``save_every`` steps."""

    save_every = 100

    def __init__(self) -> None:
        self.last: StepEvent | None = None

    def __call__(self, event: Event) -> bool:
        """Handle an event; return whether training shall stop."""
        if isinstance(event, StepEvent):
            self.last = event
            self.show_step(event)
            if event.step % self.save_every == 0 and event.step < event.total:
                self.try_to_save(event.snapshot(), aloud=False)
        elif isinstance(event, RestylingEvent):
            self.show_restyling(event)
        elif isinstance(event, PreviewEvent):
            self.show_preview(event)
        elif isinstance(event, WarningEvent):
            self.add_warning(event.text)
        return self.wants_stop()

    def save_last(self) -> None:
        """Save what was learnt before a run failed or was interrupted within a step.

        An error here becomes a warning, so that it does not hide the failure itself.
        """
        if self.last is None:
            return
        try:
            self.try_to_save(self.last.snapshot(), aloud=True)
        except (RuntimeError, MemoryError, OSError) as error:
            text = "The style of step {step} could not be kept: {reason}."
            self.add_warning(Message(text, step=self.last.step, reason=first_line(error)))

    def try_to_save(self, result: TrainResult, aloud: bool) -> None:
        """Save a result; an ACFunError becomes a warning: a full disk must not cost a training.

        Args:
            result: of the run so far, or at its end.
            aloud: whether to say where it was saved.
        """
        try:
            text = self.save_result(result)
        except ACFunError as error:
            text, aloud = str(error), True
        if aloud:
            self.add_warning(text)

    @abstractmethod
    def wants_stop(self) -> bool:
        """Tell whether the user wants to stop."""

    @abstractmethod
    def show_step(self, event: StepEvent) -> None:
        """Show progress."""

    @abstractmethod
    def show_restyling(self, event: RestylingEvent) -> None:
        """Show the progress of restyling the faces."""

    @abstractmethod
    def show_preview(self, event: PreviewEvent) -> None:
        """Show a preview."""

    @abstractmethod
    def add_warning(self, text: str) -> None:
        """Show a sentence to the user."""

    @abstractmethod
    def save_result(self, result: TrainResult) -> str:
        """Write a result to disk and return a sentence that says where it is.

        Raises:
            ACFunError: it could not be written.
        """
