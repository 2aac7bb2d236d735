"""Rows of the table: one that fails costs no other."""

import gc
import json
import logging
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...comfyui_host import load
from ...sheets import format_markdown
from .device import Gpu

log = logging.getLogger("benchmark")
Result = dict[str, Any]
Measure = Callable[[Any], Result]
ROWS: dict[str, list["Row"]] = defaultdict(list)


@dataclass(frozen=True)
class Row:
    """What is measured on a group's models. goals: entries of the result that must be true."""

    name: str
    measure: Measure
    goals: tuple[str, ...] = ()


def row(group: str, name: str, *goals: str) -> Callable[[Measure], Measure]:
    """Return a decorator that adds a function to a group's rows."""

    def add(measure: Measure) -> Measure:
        ROWS[group].append(Row(name, measure, goals))
        return measure

    return add


def run(group: str, make_models: Callable[[], Any], results: Path, until: float) -> None:
    """Measure a group; append each row's result, or its error, to a file of JSON lines.

    make_models: makes what the rows measure. until: after this ``time.time()`` no row is begun.
    """
    gpu, models = Gpu(), cache(make_models)
    for each in [Row("machine", lambda models: models.machine()), *ROWS[group]]:
        entry: Result = {"group": group, "row": each.name}
        if time.time() > until:
            entry["error"] = "no time was left"
        else:
            entry |= measure_row(each, models)
        log.info("%s", {name: value for name, value in entry.items() if name != "traceback"})
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, default=str) + "\n")
        # The next row finds no limit, no pressed Cancel and no memory of this one.
        gpu.limit_to(None)
        load("comfy.model_management").interrupt_current_processing(False)
        gc.collect()
        gpu.clear()


def measure_row(row: Row, models: Callable[[], Any]) -> Result:
    """Return a row's result or error, and its seconds."""
    began = time.time()
    entry: Result = {}
    try:
        entry["result"] = row.measure(models())
        entry["good"] = all(entry["result"].get(goal) is True for goal in row.goals)
    except KeyboardInterrupt:
        raise
    # Any error is the finding; ComfyUI's Cancel is not an Exception.
    except BaseException as error:  # noqa: BLE001
        entry["good"] = False
        entry["error"] = f"{type(error).__name__}: {error}"[:600]
        entry["traceback"] = "".join(traceback.format_exception(error))[-4000:]
    entry["seconds"] = round(time.time() - began, 1)
    return entry


def write_table(results: Path, out: Path) -> str:
    """Write the results so far as JSON, and next to it as Markdown; return the Markdown."""
    lines = results.read_text(encoding="utf-8").split("\n")
    entries = [json.loads(line) for line in lines[:-1]]  # The last may be half-written.
    machines = [e["result"] for e in entries if e["row"] == "machine" and "result" in e]
    machine: Result = machines[0] if machines else {}
    entries = [entry for entry in entries if entry["row"] != "machine" or "error" in entry]
    out.parent.mkdir(parents=True, exist_ok=True)
    table = {"machine": machine, "rows": entries}
    out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = format_table(machine, entries)
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def format_table(machine: Result, entries: list[Result]) -> str:
    """Return the results as Markdown."""
    rows = []
    for entry in entries:
        good = {True: "yes", False: "**no**", None: "not run"}[entry.get("good")]
        parts = [f"{name}: {_format(value)}" for name, value in entry.get("result", {}).items()]
        parts += [f"**{entry['error']}**"] if "error" in entry else []
        figures = "; ".join(parts).replace("|", "/").replace("\n", " ")
        name = f"{entry['group']}: {entry['row']}"
        rows.append([name, good, entry.get("seconds", ""), figures])
    return (
        "# On a GPU\n\nWritten by `python -m evaluation.performance.gpu`; see there.\n\n"
        + ", ".join(f"{name} {value}" for name, value in machine.items())
        + "\n\n"
        + format_markdown(["what", "good", "seconds", "figures"], rows)
    )


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_format(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_format, value))
    return str(value)
