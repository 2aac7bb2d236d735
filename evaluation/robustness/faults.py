"""Sixty faults in real trainings: each must leave the last good style on disk, and it must load.

Every training keeps its style after each of its four steps, so that each write can be hit.
"""

import errno
import random
from collections.abc import Callable, Iterator
from typing import Any

from acfun_ops.training.previews import PREVIEW_STEPS

from .cli_trainings import LinePlace, kill_training
from .comfyui_trainings import ComfyPlace
from .failing_disk import DiskFault
from .fault import OPERATIONS, STEPS, Fault, Place


def faults() -> Iterator[Fault]:
    """Yield the 26 faults that both places meet."""
    for operation in OPERATIONS:
        # A kept step is two writes, the style's and the state's: the third is step 2's style.
        once = DiskFault(operation, first=3)
        yield Fault(f"disk full once, at {operation} of step 2", STEPS, disk=once)
        full = DiskFault(operation, first=5, forever=True)
        yield Fault(f"disk full for good, from {operation} of step 3", 2, disk=full)
    last = DiskFault("write", first=2 * STEPS - 1)
    yield Fault("disk full once, at the last write of the style", STEPS - 1, disk=last)
    closed = DiskFault("open", errno.EROFS, first=3, forever=True)
    yield Fault("folder turned read-only after step 1", 1, disk=closed)
    for code in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
        refused = DiskFault("fsync", code, forever=True)
        yield Fault(f"a mount that refuses fsync ({errno.errorcode[code]})", STEPS, disk=refused)
    for step in (2, 3, 4):
        twice = (step, step + 1)  # Once more, with gradient checkpointing.
        yield Fault(f"out of memory in step {step}", step - 1, effect="memory", calls=twice)
    for step in (1, 2, 3, 4):
        yield Fault(f"cancelled in step {step}", max(0, step - 1), effect="cancel", calls=(step,))
    for step in (2, 3):
        yield Fault(f"the loss is NaN in step {step}", step - 2, effect="nan", calls=(step,))
    yield Fault("an unknown error in step 3", 2, effect="error", calls=(3,))
    # Calls of the preview after step 2; before it come two steps and the preview after step 1.
    late = tuple(range(PREVIEW_STEPS + 3, 2 * PREVIEW_STEPS + 3))
    preview = {"calls": late, "previews": True}
    yield Fault("an unknown error in a preview", 2, effect="preview error", **preview)
    yield Fault("out of memory in every preview", STEPS, effect="preview memory", previews=True)
    yield Fault("cancelled in a preview", 2, effect="preview cancel", **preview)


def run_all(seed: int) -> list[dict[str, Any]]:
    """Inject all faults; return a row for each: where, fault, steps, least, good, said."""
    rows = []
    with ComfyPlace() as nodes, LinePlace() as line:
        for place in (nodes, line):
            rows += [_injected(place, fault) for fault in faults()]
        rows += [
            _row(nodes.name, "a later node fails", STEPS, lambda: _after_later_node(nodes)),
            _row(nodes.name, "Save finds the disk full", STEPS, lambda: _after_failing_save(nodes)),
        ]
        rng = random.Random(seed)
        for number in range(60 - len(rows)):
            delay = rng.uniform(0.0, 1.5)
            text = f"kill -9, {delay:.2f} s after the first style ({number + 1})"
            rows.append(_row(line.name, text, 1, lambda d=delay: kill_training(line, d)))
    return rows


def _injected(place: Place, fault: Fault) -> dict[str, Any]:
    def steps() -> int:
        place.clear()
        if fault.disk is None:
            place.train(fault.effect, fault.calls, fault.previews)
        else:
            with fault.disk.injected():
                place.train(None, (), fault.previews)
        return place.kept_steps()

    return _row(place.name, fault.text, fault.least, steps)


def _row(where: str, fault: str, least: int, steps: Callable[[], int]) -> dict[str, Any]:
    row = {"where": where, "fault": fault, "least": least, "steps": None, "said": ""}
    try:
        row["steps"] = steps()
    except Exception as error:  # noqa: BLE001 - any error here is the finding.
        row["said"] = f"{type(error).__name__}: {str(error)[:200]}"
    row["good"] = row["steps"] is not None and row["steps"] >= least
    return row


def _after_later_node(nodes: Any) -> int:
    nodes.clear()
    nodes.train(None, (), False)
    nodes.fail_later()
    return int(nodes.kept_steps())


def _after_failing_save(nodes: Any) -> int:
    nodes.clear()
    nodes.train(None, (), False)
    with DiskFault("write", forever=True).injected():
        nodes.fail_saving()
    return int(nodes.kept_steps())
