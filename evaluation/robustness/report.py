"""The table of the faults, as JSON and as Markdown."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from ..sheets import format_markdown

RESULTS = Path(__file__).resolve().parents[1] / "results" / "faults.json"
TITLES = {
    "files": "Damaged, foreign and hostile files",
    "trainings": "Faults in trainings: the last good style is there and loads",
    "soak": "Long use",
}
CELLS = {True: "yes", False: "**no**"}


def record(section: str, rows: list[dict[str, Any]], path: Path = RESULTS) -> None:
    """Put a section's rows into the JSON file, and write the Markdown tables next to it."""
    table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{platform.system()} {platform.machine()}, {cores} cores, shared, CPU"
    table[section] = {"machine": f"{machine}, torch {torch.__version__}", "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(format_tables(table), encoding="utf-8")


def format_tables(table: dict[str, Any]) -> str:
    """Return all sections in Markdown; a row's keys are its columns."""
    parts = ["# Faults\n\nWritten by `python -m evaluation.robustness`; see there.\n"]
    for section, facts in sorted(table.items(), key=lambda item: list(TITLES).index(item[0])):
        rows, good = facts["rows"], sum(row.get("good", False) for row in facts["rows"])
        share = f" {good} of {len(rows)} are good." if "good" in rows[0] else ""
        cells = [[CELLS[v] if isinstance(v, bool) else v for v in row.values()] for row in rows]
        parts += [f"## {TITLES[section]}\n", f"{facts['machine']}.{share}\n"]
        parts.append(format_markdown(list(rows[0]), cells))
    return "\n".join(parts)
