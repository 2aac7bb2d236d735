"""A training in the terminal: progress, Ctrl-C, and the style on disk however it ends."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from ..backbones.backbone import Backbone
from ..errors import ACFunError
from ..style.style import Style
from ..style.style_file import load_style, save_style
from ..training.checkpoint import TrainState, load_state, save_state
from ..training.config import TrainConfig
from ..training.events import Event, PreviewEvent, StepEvent, TrainPictures, TrainResult
from ..training.fit import fit
from .picture_files import write_picture
from .terminal import Progress, interrupts, note, say

KEEP_EVERY = 100
EXIT_CODES = {"finished": 0, "cancelled": 130, "diverged": 1, "out of memory": 1}


def check_style_path(path: Path) -> None:
    """Refuse a place for a style that cannot be written, before a training and not after it.

    Raises:
        ACFunError: another ending than .safetensors, a folder, or no permission.
    """
    if path.suffix != ".safetensors" or path.is_dir():
        raise ACFunError(
            f"{path} does not end in .safetensors or is a folder; expected a file name such as "
            "my.safetensors. Choose such a name."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ACFunError(
            f"The style could not be written to {path}: {error.strerror or error}. Choose a folder "
            "that can be written."
        ) from error


def load_resumed(path: Path) -> tuple[Style, TrainState | None]:
    """Read a style to go on from, and the training state beside it if there is a usable one.

    Raises:
        ACFunError: the style cannot be read.
    """
    style, beside = load_style(path), path.with_suffix(".resume")
    try:
        return style, load_state(beside) if beside.exists() else None
    except ACFunError as error:
        note(f"note: {error}")
        return style, None


def train_and_save(
    backbone: Backbone,
    pictures: TrainPictures,
    config: TrainConfig,
    out: Path,
    resume: tuple[Style, TrainState | None] | None = None,
) -> int:
    """Train, save and say how it ended; see :func:`train_to_file`.

    Args:
        backbone: the model.
        pictures: the pair to learn.
        config: how.
        out: the style's file; the training state goes beside it, previews into a folder there.
        resume: see :func:`fit`.

    Returns:
        The exit code: 0 finished, 1 diverged or out of memory, 130 Ctrl-C.

    Raises:
        ACFunError: the inputs are unusable, or the style cannot be written.
    """
    result = train_to_file(backbone, pictures, config, out, resume)
    _tell_end(result, config, out)
    return EXIT_CODES[result.outcome]


def train_to_file(
    backbone: Backbone,
    pictures: TrainPictures,
    config: TrainConfig,
    out: Path,
    resume: tuple[Style, TrainState | None] | None = None,
) -> TrainResult:
    """Train with a progress bar and save the style, and beside it what going on needs.

    The first Ctrl-C stops after the current step and the second at once; both save. Arguments and
    errors are those of :func:`train_and_save`.
    """
    with interrupts() as wants_stop:
        reporter = _Reporter(out, config, wants_stop)
        try:
            with reporter.progress:
                result = fit(backbone, pictures, config, reporter, resume)
        except BaseException:
            reporter.save_last()
            raise
        _save(result, out)
    return result


class _Reporter:
    """Shows a training's events and keeps its style from time to time."""

    def __init__(self, out: Path, config: TrainConfig, wants_stop: Callable[[], bool]) -> None:
        self.out, self.wants_stop = out, wants_stop
        self.progress = Progress("training", config.steps)
        self.last: StepEvent | None = None

    def __call__(self, event: Event) -> bool:
        if isinstance(event, StepEvent):
            self.last = event
            self.progress.reach(event.step, loss=f"{event.loss:.4f}")
            if event.step % KEEP_EVERY == 0 and event.step < event.total:
                self._save_if_possible(event.snapshot())
        elif isinstance(event, PreviewEvent):
            self._show(event)
        else:
            note(f"note: {event.text}")
        return self.wants_stop()

    def save_last(self) -> None:
        """Save what was learnt before a training failed or was interrupted within a step."""
        if self.last is not None and self._save_if_possible(self.last.snapshot()):
            note(f"The style of step {self.last.step} is saved at {self.out}.")

    def _save_if_possible(self, result: TrainResult) -> bool:
        # A full disk must not cost a training that goes on.
        try:
            _save(result, self.out)
        except ACFunError as error:
            note(f"note: {error}")
            return False
        return True

    def _show(self, preview: PreviewEvent) -> None:
        folder = self.out.with_name(f"{self.out.stem}_previews")
        try:
            write_picture(preview.picture, folder / f"step_{preview.step:06}.png")
        except ACFunError as error:
            note(f"note: {error}")


def _save(result: TrainResult, out: Path) -> None:
    save_style(result.style, out)
    if result.state is not None:
        save_state(result.state, out.with_suffix(".resume"))


def _tell_end(result: TrainResult, config: TrainConfig, out: Path) -> None:
    steps, size = result.style.facts.steps, out.stat().st_size / 1e6
    if result.outcome == "cancelled":
        say(
            f"Stopped after step {steps} of {config.steps}; the style is saved at {out} "
            f"({size:.2f} MB). Go on with: --resume {out}"
        )
    elif result.outcome == "finished":
        say(f"{result.message} The style is saved at {out} ({size:.2f} MB).")
    else:
        note(f"error: {result.message} The style of step {steps} is saved at {out}.")
