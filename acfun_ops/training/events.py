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
    "cancelled": "Stopped after step {step} of {total}; load the kept style and connect it to "
    "resume_from to go on.",
    "out of memory": "Out of memory in the step after {step} of {total}. Lower resolution, turn "
    "gradient_checkpointing on, or close other programs that use the GPU.",
    "diverged": "The loss is not finite any more; the weights of step {step} are kept. Lower "
    "learning_rate (halve it), or set precision to bf16 or fp32.",
}


@dataclass(frozen=True, kw_only=True)
class TrainPictures:
    """What is trained on: pictures ``(b, h, w, c)`` in [0, 1] of any size, see ``images``.

    style: one or more style pictures. face: one or more photos of one face. face_mask: ``(h, w)``
    or ``(b, h, w)``, white where the face counts. Each may also be a sequence of such batches.
    """

    style: Pictures
    face: Pictures
    face_mask: Pictures | None = None


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training run leaves, however it ended.

    style: the last good weights. state: lets the run go on; None after a diverged run. losses: one
    per step done here. outcome: how it ended. message: what happened and what to do, for the user.
    """

    style: Style
    state: TrainState | None
    losses: list[float]
    outcome: Outcome
    message: str


@dataclass(frozen=True)
class StepEvent:
    """One optimiser step is done. ``snapshot`` returns the run's result so far."""

    step: int
    total: int
    loss: float
    snapshot: Callable[[], TrainResult]


@dataclass(frozen=True)
class PreviewEvent:
    """A picture ``(1, s, s, 3)`` in [0, 1] drawn with the style at this step."""

    step: int
    picture: Tensor


@dataclass(frozen=True)
class NoticeEvent:
    """Something the user should know, in a sentence."""

    text: str


Event = StepEvent | PreviewEvent | NoticeEvent
OnEvent = Callable[[Event], bool]
"""Is told of every event; True after a step or a preview stops training and keeps what there is."""
