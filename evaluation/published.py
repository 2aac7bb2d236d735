"""Runs that a report has published: whoever adds a row to it need not run the others again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .benchmark import Bench, Row
from .runs import DONE, Run, run_folder, store_run


def take_published(bench: Bench, rows: Sequence[Row], figures: Path, work: Path) -> None:
    """Store the runs of a report that are not stored yet, with their figures and no pictures.

    Args:
        bench: what is run on.
        rows: whose runs are wanted.
        figures: the report's ``figures.json``; nothing is taken where it is missing.
        work: the work folder of the bench.

    A published run is told by the name of its folder, so that none is taken which anything that
    defines it has changed since.
    """
    published = _published_runs(figures)
    for row in rows:
        for index in row.pair_indices(bench):
            folder = run_folder(bench, row, index, work)
            facts = published.get(folder.name)
            if facts is not None and not (folder / DONE).exists():
                measured = {figure.name: facts[figure.name] for figure in bench.figures}
                run = Run(row.name, index, folder, measured, facts["seconds"], facts["machine"])
                store_run(bench, row, run)


def _published_runs(figures: Path) -> dict[str, dict[str, Any]]:
    if not figures.exists():
        return {}
    rows = json.loads(figures.read_text(encoding="utf-8"))["rows"]
    pairs = [facts for row in rows.values() for facts in row["pairs"].values()]
    return {facts["run"]: facts for facts in pairs if "run" in facts}  # Old reports name no run.
