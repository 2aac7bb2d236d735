"""``models/acfun/training``: what every training leaves there, however it ended."""

from collections.abc import Iterator
from pathlib import Path

import folder_paths

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.style.style import Style
from ...acfun_ops.training.checkpoint import TrainState, load_state
from ...acfun_ops.training.events import TrainResult
from ...acfun_ops.training.run_files import (
    keep_run,
    new_place,
    place_for,
    prune_states,
    resume_file,
)
from ..schema import log
from .folder import FOLDER, name_of, style_folder
from .style_names import TRAINING


def check_can_keep() -> None:
    """Refuse to train where nothing could be kept, before the training and not after it.

    Raises:
        ACFunError: no folder of models/acfun can be written.
    """
    style_folder(TRAINING)


def keep_training(
    result: TrainResult, before: Path | None, has_namesakes: bool = False
) -> tuple[Path, str]:
    """Write a training's style, and what it needs to go on, to ``models/acfun/training``.

    The names come from the run; a file of the same run that has more steps is left alone, and one
    of a namesake in any case. Training states above ``RESUME_LIMIT`` are removed, oldest first.

    Args:
        result: what the training has learnt.
        before: where this training has written fewer steps of it, see :func:`keep_run`.
        has_namesakes: whether other trainings may have the run's name.

    Returns:
        The style's file, and a sentence that says under which name Load ACFun Style lists it.

    Raises:
        ACFunError: it could not be written.
    """
    named = style_folder(TRAINING) / TRAINING / f"{result.style.facts.run}.safetensors"
    path = (before or new_place(named)) if has_namesakes else place_for(result.style, named)
    error = keep_run(result, path, before)
    if error is not None:
        log.warning("%s", error)
        return path, (
            f"It is kept as {name_of(path)} (press R to list it), but not what it needs to go on "
            f"exactly. {error}"
        )
    removed = prune_states(path.parent, newest=resume_file(path))
    pruned = f" {removed} old .resume files were deleted to save space." if removed else ""
    return path, f"It is kept as {name_of(path)} (press R to list it).{pruned}"


def kept_state(style: Style) -> TrainState | None:
    """Return the training state that a style was written from, None if there is none."""
    for path in _states_of(style.facts.run):
        try:
            state = load_state(path)
        except ACFunError as error:
            log.warning("%s", error)
            continue
        if state.belongs_to(style):
            return state
    return None


def _states_of(run: str) -> Iterator[Path]:
    for folder in folder_paths.get_folder_paths(FOLDER):
        yield from sorted((Path(folder) / TRAINING).glob(f"{run}*.resume"))
