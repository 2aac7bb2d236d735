"""Marks beside training runs that were saved under another name: the list leaves them out."""

from contextlib import suppress
from pathlib import Path

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.file_io import write_whole


def mark_saved(run_file: Path, saved: Path) -> None:
    """Note beside a run's file where its style was saved; without room for it nothing is noted."""
    with suppress(ACFunError):
        write_whole(str(saved).encode("utf-8", "surrogateescape"), _mark(run_file), "mark")


def is_saved(run_file: Path) -> bool:
    """Tell whether a run's style was saved, is still there, and has not been trained on since."""
    mark = _mark(run_file)
    try:
        saved = Path(mark.read_bytes().decode("utf-8", "surrogateescape"))
        return saved.is_file() and mark.stat().st_mtime_ns >= run_file.stat().st_mtime_ns
    except (OSError, ValueError):
        return False


def _mark(run_file: Path) -> Path:
    return run_file.with_suffix(".saved")
