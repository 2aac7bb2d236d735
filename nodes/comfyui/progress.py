"""What a training shows in ComfyUI: text, bar and previews on the node, a bar in the console."""

import time
from collections.abc import Callable

import comfy.model_management
import comfy.utils
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ...acfun_ops.image_files import to_pil
from ...acfun_ops.messages import Message, join_messages
from ...acfun_ops.training.events import (
    Event,
    PreviewEvent,
    Reporter,
    RestylingEvent,
    StepEvent,
    TrainResult,
)
from .node_status import NodeStatus, log

STRIP_SIDE = 384
_SHOW_EVERY = 0.5  # Seconds between two texts of steps.
_SMOOTHING = 0.95  # Share of the past in the loss shown: about the last twenty steps.


class TrainingProgress(Reporter):
    """Shows a training run and turns ComfyUI's Cancel into a stop; use it in a ``with`` block.

    Args:
        node_id: the node to show it on.
        steps: of the run.
        has_use_for_previews: whether another node takes the previews.
        save: writes a result to disk and returns a sentence that tells where.
    """

    def __init__(
        self,
        node_id: str,
        steps: int,
        has_use_for_previews: bool,
        save: Callable[[TrainResult], str],
    ) -> None:
        super().__init__()
        self.status = NodeStatus(node_id)
        self.has_use_for_previews = has_use_for_previews
        self.bar = comfy.utils.ProgressBar(steps)
        self.pace = _Pace()
        self.console: tqdm | None = None
        self.pair: list[Tensor] = []  # In front of the previews.
        self.previews: list[Tensor] = []
        self.interrupt: comfy.model_management.InterruptProcessingException | None = None
        self._save = save

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.console is not None:
            self.console.close()
        # They hold the run, which holds this: in a circle the MODEL would outlive its use.
        self.last = self.interrupt = None

    def __call__(self, event: Event) -> bool:
        """Show an event; return whether the user has cancelled."""
        try:
            return super().__call__(event)
        except comfy.model_management.InterruptProcessingException as interrupt:
            self.interrupt = interrupt
            return True

    def wants_stop(self) -> bool:
        """Return whether the user has cancelled at an event before.

        Raises:
            InterruptProcessingException: the user has cancelled now.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        return self.interrupt is not None  # ComfyUI tells once, perhaps at a warning.

    def save_result(self, result: TrainResult) -> str:
        """Write the style to disk and return what happened and where it is.

        Raises:
            ACFunError: it could not be written.
        """
        return join_messages(" ", [result.message, self._save(result)])

    def add_warning(self, text: str) -> None:
        """Log a sentence and show it on the node for the rest of the run."""
        self.status.add_warning(text)

    def end(self, text: str) -> None:
        """Log and show how the run ended."""
        log.info(text)
        self.status.show(text)

    def show_step(self, event: StepEvent) -> None:
        """Move both bars and, from time to time, the text on the node."""
        self.bar.update_absolute(event.step, event.total)
        is_due = self.pace.note(event)
        if is_due or event.step == event.total:
            self.status.show(self.pace.text(event))
        if self.console is None:
            first = event.step - 1
            self.console = tqdm(total=event.total, initial=first, desc="ACFun", mininterval=0.5)
        self.console.set_postfix({"loss": f"{self.pace.loss:.4f}"}, refresh=False)
        self.console.update(event.step - self.console.n)

    def show_restyling(self, event: RestylingEvent) -> None:
        """Show on the node how far it is."""
        self.status.show(
            Message(
                "Redrawing the face in the style: step {step} of {total}.",
                step=event.step,
                total=event.total,
            )
        )

    def show_preview(self, event: PreviewEvent) -> None:
        """Show the strip of style, face and preview on the node."""
        self.previews.append(event.picture)
        strip = _strip([*self.pair, event.picture])
        self.bar.update_absolute(event.step, None, ("JPEG", strip, strip.width))


class _Pace:
    """The smoothed loss and the time of a training."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.first: int | None = None
        self.began = self.shown = 0.0

    def note(self, event: StepEvent) -> bool:
        """Take in a step; return whether it is time to show it."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.began, self.loss = event.step, now, event.loss
        self.loss = _SMOOTHING * self.loss + (1 - _SMOOTHING) * event.loss
        is_due = now - self.shown >= _SHOW_EVERY
        self.shown = now if is_due else self.shown
        return is_due

    def text(self, event: StepEvent) -> str:
        """Return "step 35 of 150, loss 0.1234, 1.25 s a step, 2:24 left"."""
        text = Message(
            "step {step} of {total}, loss {loss:.4f}",
            step=event.step,
            total=event.total,
            loss=self.loss,
        )
        done = event.step - (self.first or 0)
        if done == 0:
            return text  # The first step also warms up, and tells nothing of the others.
        pace = (time.monotonic() - self.began) / done
        left = tqdm.format_interval(pace * (event.total - event.step))
        return Message("{text}, {pace:.2f} s a step, {left} left", text=text, pace=pace, left=left)


def _strip(pictures: list[Tensor]) -> Image.Image:
    """Return pictures side by side: style, face, and what the style draws now."""
    strip = Image.new("RGB", (STRIP_SIDE * len(pictures), STRIP_SIDE))
    for place, picture in enumerate(pictures):
        square = to_pil(picture).resize((STRIP_SIDE, STRIP_SIDE))
        strip.paste(square, (place * STRIP_SIDE, 0))
    return strip
