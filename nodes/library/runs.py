"""Training runs in ``models/acfun/training``: find finished and partial ones, save new ones."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from torch import Tensor

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.messages import Message, join_messages
from ...acfun_ops.style.style import Style, StyleFacts
from ...acfun_ops.style.style_file import load_style, read_facts
from ...acfun_ops.training.checkpoint import TrainState, load_state
from ...acfun_ops.training.events import TrainResult
from ...acfun_ops.training.run_files import (
    holds,
    keep_run,
    new_place,
    place_for,
    prune_states,
    resume_file,
)
from .folder import (
    FOLDER,
    TRAINING,
    is_file_of_other_run,
    label_of,
    name_of,
    style_files,
    style_folder,
)
from .history import TrainingHistory, read_history, write_history
from .preview_image import preview_path, read_preview, write_preview

log = logging.getLogger("ACFun")


@dataclass(frozen=True)
class FinishedStyle:
    """A style that was trained before."""

    name: str
    """As Load ACFun Style lists it."""
    style: Style
    """The style."""
    history: TrainingHistory
    """What its training has shown; if that is gone, the picture it was saved with, if any."""

    @property
    def message(self) -> Message:
        """What to tell of it."""
        return Message(
            "Took {name} ({steps} steps), trained before on the same pictures, settings and "
            "models. Turn on retrain to train anew.",
            name=self.name,
            steps=self.style.facts.steps,
        )


def find_finished(facts: StyleFacts, steps: int) -> FinishedStyle | None:
    """Return the style of a run with all its steps, None if there is none.

    One that was saved with a picture comes before others.

    Args:
        facts: of the run: pictures, settings, checkpoint and CLIP vision make its name, and the
            pack's version must be the same.
        steps: that the style must have.
    """
    wanted = {"run": facts.run, "version": facts.version, "steps": steps}
    files = style_files().items()
    for name, path in sorted(files, key=lambda file: not preview_path(file[1]).is_file()):
        if is_file_of_other_run(name, facts.run) or not wanted.items() <= read_facts(path).items():
            continue
        try:
            style = load_style(path)
        except ACFunError as error:
            log.warning("%s", error)
            continue
        history = read_history(_training_folders(), style.facts)
        if not history.previews and (picture := read_preview(path, style.card)) is not None:
            history.previews.append(picture)
        if not history.losses and (state := find_state(style)) is not None:
            history.losses.extend(state.losses.tolist())
        return FinishedStyle(label_of(name, path), style, history)
    return None


def find_partial(facts: StyleFacts, learnt: int, steps: int) -> tuple[Style, TrainState] | None:
    """Return the longest part of a run, with the state that lets it go on exactly; None if none.

    Args:
        facts: of the run, as in :func:`find_finished`.
        learnt: the steps of what is there without it; a part has more.
        steps: of the whole run; a part has fewer.
    """
    parts = {}
    for name, path in style_files().items():
        if is_file_of_other_run(name, facts.run) or not resume_file(path).is_file():
            continue
        found = read_facts(path)
        done = found.get("steps")
        is_same = (found.get("run"), found.get("version")) == (facts.run, facts.version)
        if is_same and isinstance(done, int) and learnt < done < steps:
            parts[done] = path
    for _, path in sorted(parts.items(), reverse=True):
        try:
            style, state = load_style(path), load_state(resume_file(path))
        except ACFunError as error:
            log.warning("%s", error)
            continue
        if state.belongs_to(style):
            return style, state
    return None


def find_run_file(style: Style) -> Path | None:
    """Return the file of the training run that a style is the result of, None if it is gone."""
    files = (p for f in _training_folders() for p in f.glob(f"{style.facts.run}*.safetensors"))
    return next((path for path in files if holds(path, style)), None)


def check_can_save() -> None:
    """Refuse to train where nothing could be kept, before the training and not after it.

    Raises:
        ACFunError: no folder of models/acfun can be written.
    """
    style_folder(TRAINING)


class TrainingSaver:
    """Writes a training run's style, and what it needs to go on, to ``models/acfun/training``.

    ``is_run_name_shared`` tells whether other runs may have the run's name: each save then takes a
    new file. ``goes_on`` tells whether the next run of the graph goes on from what is saved. The
    last of ``previews`` is put beside the style.
    """

    def __init__(self) -> None:
        self.is_run_name_shared = False
        self.previews: Sequence[Tensor] = ()
        self.goes_on = True
        self._path: Path | None = None

    def save(self, result: TrainResult) -> str:
        """Write the style and its state, named after the run; call it as often as needed.

        A file of the same run that has more steps is left alone. Training states above
        ``RESUME_LIMIT`` are removed, oldest first.

        Returns:
            A sentence that tells under which name Load ACFun Style lists it.

        Raises:
            ACFunError: it could not be written.
        """
        named = style_folder(TRAINING) / TRAINING / f"{result.style.facts.run}.safetensors"
        before = self._path
        if self.is_run_name_shared:
            path = before or new_place(named)
        else:
            path = place_for(result.style, named)
        error = keep_run(result, path, before)
        self._path = path
        with suppress(ACFunError, OSError):  # A picture costs no style.
            if self.previews:
                write_preview(self.previews[-1], path)
            else:  # One of fewer steps is not this style's.
                preview_path(path).unlink(missing_ok=True)
            if before is not None and not before.exists():  # Its style has moved.
                preview_path(before).unlink(missing_ok=True)
        name = name_of(path)
        if error is not None:
            log.warning("%s", error)
            return Message(
                "It is kept as {name} (press R to list it), but not what it needs to go on "
                "exactly. {error}",
                name=name,
                error=error,
            )
        removed = prune_states(path.parent, newest=resume_file(path))
        pruned = (
            Message(" {removed} old .resume files were deleted to save space.", removed=removed)
            if removed
            else ""
        )
        kept = Message(
            "It is kept as {name} (press R to list it).{pruned}", name=name, pruned=pruned
        )
        if result.state is None or result.outcome == "finished":
            return kept
        go_on = "To go on, load it and connect it to resume_from."
        return join_messages(" ", [kept, "Press Run to go on." if self.goes_on else go_on])

    def save_history(self, style: Style, history: TrainingHistory) -> None:
        """Write what a finished training has shown beside the style that was saved last.

        Where it cannot be written it is done without. A run of a shared name is never looked up.
        """
        if self._path is None or self.is_run_name_shared:
            return
        try:
            write_history(self._path, style.facts, history)
        except ACFunError as error:
            log.warning("%s", error)


def find_state(style: Style) -> TrainState | None:
    """Return the training state that a style was written from, None if there is none."""
    files = (p for f in _training_folders() for p in sorted(f.glob(f"{style.facts.run}*.resume")))
    for path in files:
        try:
            state = load_state(path)
        except ACFunError as error:
            log.warning("%s", error)
            continue
        if state.belongs_to(style):
            return state
    return None


def _training_folders() -> list[Path]:
    return [Path(folder) / TRAINING for folder in folder_paths.get_folder_paths(FOLDER)]
