"""What every listener of a training does with its events; each front end adds how it shows them."""

from abc import ABC, abstractmethod

from ..errors import ACFunError, first_line
from ..messages import Message
from .events import (
    Event,
    NoticeEvent,
    PreviewEvent,
    RedrawingEvent,
    StepEvent,
    TrainResult,
)


class Reporter(ABC):
    """Shows a training's events, and keeps its style on disk every ``save_every`` steps."""

    save_every = 100

    def __init__(self) -> None:
        self.last: StepEvent | None = None

    def __call__(self, event: Event) -> bool:
        """Handle an event; return whether training shall stop."""
        if isinstance(event, StepEvent):
            self.last = event
            self.show_step(event)
            if event.step % self.save_every == 0 and event.step < event.total:
                self._keep_said(event.snapshot(), aloud=False)
        elif isinstance(event, RedrawingEvent):
            self.show_redrawing(event)
        elif isinstance(event, PreviewEvent):
            self.show_preview(event)
        elif isinstance(event, NoticeEvent):
            self.say(event.text)
        return self.wants_stop()

    def keep_last(self) -> None:
        """Keep what was learnt before a training failed or was interrupted within a step.

        What goes wrong here is said, so that it does not take the place of the failure itself.
        """
        if self.last is None:
            return
        try:
            self._keep_said(self.last.snapshot(), aloud=True)
        except (RuntimeError, MemoryError, OSError) as error:
            self.say(
                Message(
                    "The style of step {step} could not be kept: {reason}.",
                    step=self.last.step,
                    reason=first_line(error),
                )
            )

    def _keep_said(self, result: TrainResult, aloud: bool) -> None:
        # A full disk must not cost a training that goes on.
        try:
            text = self.keep(result)
        except ACFunError as error:
            text, aloud = str(error), True
        if aloud:
            self.say(text)

    @abstractmethod
    def wants_stop(self) -> bool:
        """Tell whether the user wants to stop."""

    @abstractmethod
    def show_step(self, event: StepEvent) -> None:
        """Show progress."""

    @abstractmethod
    def show_redrawing(self, event: RedrawingEvent) -> None:
        """Show how far the faces of ``drawn`` are."""

    @abstractmethod
    def show_preview(self, event: PreviewEvent) -> None:
        """Show a preview."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Tell the user a sentence."""

    @abstractmethod
    def keep(self, result: TrainResult) -> str:
        """Write a result to disk and return a sentence that says where it is.

        Raises:
            ACFunError: it could not be written.
        """
