"""Sixty faults in real training runs: each must leave the last good style on disk, loadable.

Every run saves its style after each of its four steps, so that each write can be hit.
"""

import errno
import random
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from functools import partial
from typing import Any

from acfun_ops.training.previews import PREVIEW_STEPS

from .failing_disk import DiskFault
from .trainings import STEPS, ComfyUIHost, CommandLineHost, Fault, Host

OPERATIONS = ("open", "write", "fsync", "replace")


def faults() -> Iterator[Fault]:
    """Yield the 26 faults that both hosts meet."""
    for operation in OPERATIONS:
        # A saved step is two writes, the style's and the state's: the third is step 2's style.
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
    calls = tuple(range(PREVIEW_STEPS + 3, 2 * PREVIEW_STEPS + 3))
    preview = partial(Fault, in_previews=True)
    yield preview("an unknown error in a preview", 2, effect="error", calls=calls)
    yield preview("out of memory in every preview", STEPS, effect="memory")
    yield preview("cancelled in a preview", 2, effect="cancel", calls=calls)


def run_all(seed: int) -> list[dict[str, Any]]:
    """Inject all faults; return a row for each: where, fault, steps, least, good, said."""
    rows = []
    with closing(ComfyUIHost()) as nodes, closing(CommandLineHost()) as line:
        for host in (nodes, line):
            rows += [run_fault(host, fault) for fault in faults()]
        for text, fail in (
            ("a later node fails", nodes.fail_later),
            ("Save finds the disk full", nodes.fail_saving),
        ):
            rows.append(_row(nodes.name, text, STEPS, partial(fail_afterwards, nodes, fail)))
        rng = random.Random(seed)
        for number in range(60 - len(rows)):
            delay = rng.uniform(0.0, 1.5)
            text = f"kill -9, {delay:.2f} s after the first style ({number + 1})"
            rows.append(_row(line.name, text, 1, partial(line.kill, delay)))
    return rows


def run_fault(host: Host, fault: Fault) -> dict[str, Any]:
    """Inject one fault; return its row, see :func:`run_all`."""

    def train() -> int:
        host.clear()
        with fault.disk.inject() if fault.disk else nullcontext():
            host.train(fault)
        return host.steps_on_disk()

    return _row(host.name, fault.text, fault.least, train)


def fail_afterwards(nodes: ComfyUIHost, fail: Callable[[], None]) -> int:
    """Train and let another node fail; return the saved steps."""
    nodes.clear()
    nodes.train(Fault("none", STEPS))
    fail()
    return nodes.steps_on_disk()


def _row(where: str, fault: str, least: int, run: Callable[[], int]) -> dict[str, Any]:
    row = {"where": where, "fault": fault, "least": least, "steps": None, "said": ""}
    try:
        row["steps"] = steps = run()
        row["good"] = steps >= least
    except Exception as error:  # noqa: BLE001 - any error here is the finding.
        row["said"] = f"{type(error).__name__}: {str(error)[:200]}"
        row["good"] = False
    return row
