"""The table of the faults, as JSON and as Markdown."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from ..sheets import format_markdown

RESULTS = Path(__file__).resolve().parents[1] / "results" / "faults.json"


def record(section: str, facts: dict[str, Any], path: Path = RESULTS) -> None:
    """Put a section's facts into the JSON file, and write the Markdown table next to it."""
    table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    table[section] = {"machine": _machine(), **facts}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(_text(table), encoding="utf-8")


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, {cores} cores, shared, CPU, torch {torch.__version__}"


def _text(table: dict[str, Any]) -> str:
    parts = ["# Faults\n\nWritten by `python -m evaluation.robustness`; see there.\n"]
    if files := table.get("files"):
        rows: list[list[Any]] = []
        for kind in ("style", "resume"):
            bad = sum(text.startswith(kind) for text in files["failures"])
            rows.append([kind, files["refused"][kind], files["loaded"][kind], bad])
        parts += [
            "## Damaged, foreign and hostile files\n",
            f"{files['machine']}; {files['seconds']:.0f} s; memory grew by "
            f"{files['growth_mb']:.0f} MB.\n",
            format_markdown(
                ["kind", "refused in one sentence", "loaded as written", "failures"], rows
            ),
        ]
    if trainings := table.get("trainings"):
        good = sum(row["good"] for row in trainings["rows"])
        rows = []
        for row in trainings["rows"]:
            said = "yes" if row["good"] else f"**no**: {row['said']}"
            rows.append([row["where"], row["fault"], row["steps"], row["least"], said])
        parts += [
            "## Faults in trainings\n",
            f"{trainings['machine']}. The last good style is there and loads in {good} of "
            f"{len(trainings['rows'])}.\n",
            format_markdown(["where", "fault", "steps in the style", "at least", "good"], rows),
        ]
    if soak := table.get("soak"):
        figures = format_markdown(["what", "figure"], soak["figures"].items())
        parts += ["## Long use\n", f"{soak['machine']}.\n", figures]
    return "\n".join(parts)
