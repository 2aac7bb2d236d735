"""Rows of a table, each with a budget of its own: one that fails costs no other."""

import gc
import json
import logging
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .card import Card

log = logging.getLogger("benchmark")
Result = dict[str, Any]


class OutOfTimeError(BaseException):
    """A row's budget is used up; no ``except`` of what is measured shall catch it."""


@dataclass(frozen=True)
class Row:
    """What is measured, in how many seconds at most, and what its result must hold.

    goals: entries of the result that must be true.
    """

    name: str
    seconds: int
    measure: Callable[[], Result]
    goals: Sequence[str] = ()


def run(group: str, rows: Sequence[Row], card: Card, results: Path, until: float) -> None:
    """Measure each row; append its result, or its error, to a file of one JSON object a line.

    Args:
        group: that the rows belong to.
        rows: in order; the most important first.
        card: put right after each row.
        results: the file.
        until: time, in seconds of ``time.time``, after which no row is begun.
    """
    for row in rows:
        left = int(until - time.time())
        if left < 3:
            _write(results, {"group": group, "row": row.name, "error": "no time was left"})
            continue
        seconds = row.seconds if card.is_there else 10 * row.seconds
        _write(results, {"group": group, "row": row.name, **measured(row, min(seconds, left))})
        _tidy(card)


def measured(row: Row, seconds: int) -> Result:
    """Return a row's seconds and result, or its error."""
    began = time.time()
    entry: Result = {}
    try:
        with _at_most(seconds):
            entry["result"] = row.measure()
        entry["good"] = all(entry["result"].get(goal) is True for goal in row.goals)
    except KeyboardInterrupt:
        raise
    # Any error is the finding; ComfyUI's Cancel is none of Exception.
    except BaseException as error:  # noqa: BLE001
        entry["good"] = False
        entry["error"] = f"{type(error).__name__}: {error}"[:600]
        entry["traceback"] = "".join(traceback.format_exception(error))[-4000:]
    entry["seconds"] = round(time.time() - began, 1)
    return entry


def failed(group: str, name: str, error: BaseException, results: Path) -> None:
    """Write down that a group could not even begin."""
    text = "".join(traceback.format_exception(error))[-4000:]
    entry = {"error": f"{type(error).__name__}: {error}"[:600], "traceback": text}
    _write(results, {"group": group, "row": name, "good": False, **entry})


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise OutOfTimeError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _tidy(card: Card) -> None:
    """Leave nothing of a row to the next one: a limit, a pressed Cancel, memory."""
    import comfy.model_management as mm

    card.unlimit()
    mm.interrupt_current_processing(False)
    gc.collect()
    card.clear()


def _write(results: Path, entry: Result) -> None:
    log.info("%s", {name: value for name, value in entry.items() if name != "traceback"})
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, default=str) + "\n")
