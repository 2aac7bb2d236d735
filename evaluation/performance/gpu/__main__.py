"""Memory, speed and faults of training and applying a style on a real GPU.

    python -m evaluation.performance.gpu [--group NAME]... [--out FILE] [--small]

It needs ComfyUI at ``$COMFYUI_PATH`` or ``~/comfy/ComfyUI``, and a CUDA GPU with nothing else to
do. Full-size models get random weights, so images mean nothing; memory, speed and faults do. Each
group of rows runs in a process of its own. The table goes to ``evaluation/results/gpu.json`` and
``gpu.md``, after every row, in place of that row before and of those of another machine.
``--small`` takes the tests' small models and also runs on a CPU, to try the rows themselves.
"""

import argparse
import gc
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...comfyui_host import load
from ...sheets import format_markdown
from . import checks, server
from .device import Gpu
from .models import Models, machine

RESULTS = Path(__file__).resolve().parents[2] / "results" / "gpu.json"
Rows = dict[str, Callable[[Any], dict[str, Any]]]
# What makes a group's models, and its rows by name.
GROUPS: dict[str, tuple[Callable[[bool], Any], Rows]] = {
    "sd1": (
        partial(Models, "sd1"),
        checks.memory_rows("sd1")
        | {
            "out of memory for good": checks.exhaust_memory,
            "out of memory without checkpointing": checks.require_checkpointing,
        },
    ),
    "speed": (
        partial(Models, "sd1"),
        {"training of 150 steps": checks.time_default_run, "ratios": checks.time_ratios},
    ),
    "sdxl": (partial(Models, "sdxl"), checks.memory_rows("sdxl")),
    "deterministic": (
        partial(Models, "sd1", is_deterministic=True),
        {
            "two trainings with one seed": checks.compare_seeds,
            "cancelled, then resumed": checks.cancel_and_resume,
        },
    ),
    "server": (
        server.Server,
        {
            "the plain picture stays": server.compare_plain_images,
            "cancelled, then resumed": server.cancel_and_resume,
            "its log": server.stop_server,
        },
    ),
}
log = logging.getLogger("benchmark")


def main() -> None:
    """Measure one group in this process, or every group in its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--group", action="append", choices=list(GROUPS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--small", action="store_true", help="the tests' small models")
    parser.add_argument("--seconds", type=int, default=900, help="after which nothing is begun")
    parser.add_argument("--here", choices=list(GROUPS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.small and options.out == RESULTS:
        parser.error("--small needs another file with --out: its figures mean nothing")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    until = time.time() + options.seconds
    if options.here:
        measure_group(options.here, options.small, options.out, until)
        return
    for name in options.group or GROUPS:
        left = max(0, int(until - time.time()))
        command = [sys.executable, "-m", "evaluation.performance.gpu", "--here", name]
        command += ["--seconds", str(left), "--out", str(options.out)]
        command += ["--small"] * options.small
        # One that hangs in a driver is killed.
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, timeout=left + 15, check=False)


def measure_group(name: str, is_small: bool, out: Path, until: float) -> None:
    """Measure a group's rows and write the table after each; one that fails costs no other.

    until: after this ``time.time()`` no row is begun; the table's row of that name stays.
    """
    if time.time() >= until:
        return
    make_models, measures = GROUPS[name]
    models: Any = None
    failure: dict[str, Any] | None = None
    try:
        models = make_models(is_small)
    except Exception as error:  # Any error is the finding, of each row.
        log.exception("%s", name)
        failure = describe_failure(error)
    here = machine(Gpu())
    old = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    known = old["rows"] if old.get("machine") == here else []
    rows = {row: {"group": name, "row": row} for row in measures}
    rows |= {row["row"]: row for row in known if row["group"] == name and row["row"] in rows}
    others = [row for row in known if row["group"] != name]
    for row, measure in measures.items():
        if time.time() >= until:
            return
        found = failure or measure_row(partial(measure, models), models.gpu)
        rows[row] = {"group": name, "row": row} | found
        log.info("%s", rows[row])
        table = {"machine": here, "rows": [*others, *rows.values()]}
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(table, indent=1, ensure_ascii=False, default=str)
        out.write_text(text + "\n", encoding="utf-8")
        out.with_suffix(".md").write_text(format_table(table), encoding="utf-8")


def measure_row(measure: Callable[[], dict[str, Any]], gpu: Gpu) -> dict[str, Any]:
    """Return what was measured, its seconds, and whether no figure is a no."""
    mm, began = load("comfy.model_management"), time.time()
    try:
        figures = measure()
    except (Exception, mm.InterruptProcessingException) as error:  # Any error is the finding.
        log.exception("It failed.")
        found = describe_failure(error)
    else:
        found = {"result": figures, "good": not any(value is False for value in figures.values())}
    found["seconds"] = round(time.time() - began, 1)
    # The next row finds no limit, no pressed Cancel and no memory of this one.
    gpu.limit_to(None)
    mm.interrupt_current_processing(False)
    gc.collect()
    torch.cuda.empty_cache()
    return found


def describe_failure(error: BaseException) -> dict[str, Any]:
    """Return the row of what could not be measured."""
    return {"good": False, "error": f"{type(error).__name__}: {error}"[:600]}


def format_table(table: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = []
    for row in table["rows"]:
        figures = [f"{name}: {_word(value)}" for name, value in row.get("result", {}).items()]
        text = "; ".join(figures or [row.get("error", "")]).replace("|", "/").replace("\n", " ")
        good = {True: "yes", False: "**no**", None: "not run"}[row.get("good")]
        lines.append([f"{row['group']}: {row['row']}", good, row.get("seconds", ""), text])
    return (
        "# On a GPU\n\nWritten by `python -m evaluation.performance.gpu`; see there.\n\n"
        + ", ".join(f"{name} {value}" for name, value in table["machine"].items())
        + "\n\n"
        + format_markdown(["what", "good", "seconds", "figures"], lines)
    )


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_word, value))
    return {"True": "yes", "False": "no"}.get(str(value), str(value))


if __name__ == "__main__":
    main()
