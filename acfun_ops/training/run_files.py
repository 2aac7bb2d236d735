"""A training run on disk: its style, and beside it what it needs to go on exactly."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, count, takewhile
from pathlib import Path

from ..errors import ACFunError
from ..file_io import TEMPORARY
from ..style.style import Style
from ..style.style_file import RUN_ID, load_style, read_facts, save_style
from .checkpoint import save_state
from .events import TrainResult

RESUME_LIMIT = 10**9
"""Bytes that the training states of one folder may take together."""

_STALE = 3600.0  # Seconds after which nothing can still be writing a file.
_OURS = re.compile(rf"{RUN_ID.pattern}(_\d+)?\.resume")


def resume_file(style_path: Path) -> Path:
    """Return where the training state of a style lies: beside it."""
    return style_path.with_suffix(".resume")


def keep_run(
    result: TrainResult, style_path: Path, before: Path | None = None
) -> ACFunError | None:
    """Write a run's style and, if it is not finished, the state that lets it go on exactly.

    A state that belongs to the style's file no more is removed; that of a run which came to its end
    without a step, as with too few steps in all, stays.

    Args:
        result: what the run has learnt.
        style_path: the style's file.
        before: where it was written with fewer steps, None if nowhere. If that is another file, as
            beside a finished style that is trained anew, it is removed with its state.

    Returns:
        Why the state could not be written, None if it was or is not needed. The style is written.

    Raises:
        ACFunError: the folder cannot be written or the disk is full, so the style is not written.
    """
    is_finished = result.outcome == "finished"
    has_learnt = not (is_finished and holds(style_path, result.style))
    save_style(result.style, style_path)
    without_state = None
    if result.state is not None and not is_finished:
        try:
            save_state(result.state, resume_file(style_path))
        except ACFunError as error:
            without_state = error
    elif has_learnt:
        stale = {style_path}
        if result.outcome == "diverged" and before is not None:
            stale.add(before)  # Its state would only lead there again.
        for path in stale:
            with suppress(OSError):  # A file that cannot be removed costs space and no more.
                resume_file(path).unlink(missing_ok=True)
    if before not in (None, style_path):
        _remove_shorter(before, result.style)
    return without_state


def place_for(style: Style, path: Path) -> Path:
    """Return ``path``, or a numbered name beside it if it holds more steps or anything else.

    A run that ends early, for whatever reason, must cost neither what an earlier part has learnt
    nor a file of something else.
    """
    steps = style.facts.steps
    return next(
        place
        for place in _places(path)
        if not place.exists() or 0 <= _steps_at(place, style.facts.run) <= steps
    )


def new_place(path: Path) -> Path:
    """Return ``path``, or a numbered name beside it if anything is there."""
    return next(place for place in _places(path) if not place.exists())


def part_at(path: Path, run: str) -> Path | None:
    """Return where :func:`place_for` has put the longest part of a run, None if nowhere."""
    steps = {place: _steps_at(place, run) for place in takewhile(Path.exists, _places(path))}
    parts = [place for place in steps if steps[place] >= 0]
    return max(parts, key=steps.__getitem__, default=None)


def _places(path: Path) -> Iterator[Path]:
    names = chain([path.stem], (f"{path.stem}_{number}" for number in count(2)))
    return (path.with_name(f"{name}{path.suffix}") for name in names)


def holds(path: Path, style: Style) -> bool:
    """Tell whether a file is of a style."""
    try:
        return load_style(path).digest == style.digest
    except ACFunError:
        return False


def _steps_at(path: Path, run: str) -> int:
    """Return the steps of the style in a file; -1 if there is none of this run."""
    facts = read_facts(path)
    steps = facts.get("steps")
    return steps if facts.get("run") == run and isinstance(steps, int) else -1


def _remove_shorter(path: Path, style: Style) -> None:
    """Remove a style of fewer steps of a run, and its state; one that has more by now stays."""
    if 0 <= _steps_at(path, style.facts.run) <= style.facts.steps:
        with suppress(OSError):  # A file that cannot be removed costs space and no more.
            resume_file(path).unlink(missing_ok=True)
            path.unlink()


def prune_states(folder: Path, newest: Path, limit: int = RESUME_LIMIT) -> int:
    """Remove the oldest training states of a folder until the rest is within a limit.

    What a crash has left half-written goes as well.

    Args:
        folder: holds runs by their own names; files called otherwise are left alone.
        newest: the state just written, which stays.
        limit: in bytes.

    Returns:
        How many states were removed; their styles stay.
    """
    for path in folder.glob(TEMPORARY):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _STALE:
                path.unlink()
    states = []
    for path in folder.glob("*.resume"):
        with suppress(OSError):
            if _OURS.fullmatch(path.name):
                facts = path.lstat()
                states.append((path != newest, -facts.st_mtime_ns, facts.st_size, path))
    total = removed = 0
    for is_old, _, size, path in sorted(states):
        total += size
        if is_old and total > limit:
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed
