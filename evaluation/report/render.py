"""The results as a table to read, figures for machines, and pictures to look at."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from acfun_ops.contact_sheet import SheetRow, contact_sheet
from acfun_ops.image_files import to_pil

from ..benchmark import Bench, Expectation, Row, Section, description, rows_of
from ..runs import Run, has_images, read_result
from ..sheets import format_markdown, write_sheet
from .results import Interval, Results, verdict

FIGURES = "figures.json"
ARROWS = {"higher": "↑", "lower": "↓"}
# What the paper's voters were asked about, its key in a section's votes, and what figures count.
VOTED = {
    "overall": ("", ("face", "style")),
    "of the face": ("face", ("face",)),
    "of the style": ("style", ("style",)),
}
SHEET_PAIRS = 3
SHEET_SIDE = 96


def write_report(
    bench: Bench, sections: Sequence[Section], runs: Sequence[Run], folder: Path
) -> list[str]:
    """Write ``table.md``, ``figures.json`` and one contact sheet per section.

    Return the titles of the sections whose sheet is not written, as images of its runs are not
    stored.
    """
    results = Results(bench, runs)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(table(sections, results), encoding="utf-8")
    figures = json.dumps(machine_figures(sections, results), indent=1)
    (folder / FIGURES).write_text(figures + "\n", encoding="utf-8")
    without = []
    for section in sections:
        if all(has_images(run.folder) for run in sheet_runs(section, results)):
            write_sheet(sheet(section, results), folder / f"{slug(section.title)}.jpg")
        else:
            without.append(section.title)
    return without


def table(sections: Sequence[Section], results: Results) -> str:
    """Return the report in Markdown."""
    bench = results.bench
    parts = [
        f"# Results on {bench.name}\n",
        "Mean over pairs and 95 % bootstrap interval. An arrow shows which way is better; an "
        "asterisk that the paired difference from the section's reference row excludes zero.\n",
        _machine_lines(results),
    ]
    for section in sections:
        parts.append(f"## {section.title}\n\n![Samples]({slug(section.title)}.jpg)\n")
        parts.append(_section_table(section, results))
        if section.votes is not None:
            parts.append(_votes_table(section, results))
        if section.expectations:
            parts.append(_expectation_table(section, results))
    return "\n".join(parts)


def machine_figures(sections: Sequence[Section], results: Results) -> dict[str, Any]:
    """Return everything as JSON takes it."""
    bench = results.bench
    return {
        "bench": bench.name,
        "machines": results.machines,
        "figures": [asdict(figure) for figure in bench.figures],
        "rows": {row.name: _row_figures(row, results) for row in rows_of(sections)},
        "sections": [_section_figures(section, results) for section in sections],
    }


def sheet(section: Section, results: Results) -> Image.Image:
    """Return a contact sheet of a few pairs: what was given, and what each row drew."""
    bench, count = results.bench, min(row.samples for row in section.rows)
    given = ["style", "face"] + ["truth"] * (bench.truths is not None)
    lines = []
    for run in sheet_runs(section, results):
        pair = bench.pairs[run.pair]
        pictures = [pair.style, pair.face]
        if bench.truths is not None:
            pictures.append(bench.truths[run.pair])
        samples = read_result(run.folder).samples[:count]
        images = [to_pil(picture[None]) for picture in [*pictures, *samples]]
        lines.append(SheetRow(f"{run.row} on {pair.name}", images))
    return contact_sheet([*given, *(f"{i + 1}" for i in range(count))], lines, SHEET_SIDE)


def sheet_runs(section: Section, results: Results) -> list[Run]:
    """Return the runs on a section's sheet: every row on the first, a middle and the last pair."""
    pairs = results.section_pairs(section)
    last = len(pairs) - 1
    shown = sorted({pairs[i * last // (SHEET_PAIRS - 1)] for i in range(SHEET_PAIRS)})
    return [results.runs[row.name][index] for index in shown for row in section.rows]


def slug(title: str) -> str:
    """Return a title as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _machine_lines(results: Results) -> str:
    """Say what was run where, and what a change of machine means."""
    machines = results.machines
    lines = [f"- {count} runs on {machine}" for machine, count in machines.items()]
    if len(machines) > 1:
        lines[0] += "; the seconds are of these alone"
        lines.append(
            "\nPictures, prompts and noise are the same on each, last bits of the arithmetic are "
            "not. `figures.json` says of each row and pair where it was run."
        )
    return "\n".join(lines) + "\n"


def _section_table(section: Section, results: Results) -> str:
    figures = results.bench.figures
    ranks = results.ranks(section) if section.is_ranked else {}
    pairs = results.section_pairs(section)
    heads = ["row", "steps", "pairs"] + ["rank ↓"] * bool(ranks)
    heads += [f"{figure.heading} {ARROWS[figure.better]}" for figure in figures] + ["s / pair"]
    rows = []
    for row in section.rows:
        name = f"{row.name} (reference)" if row.name == section.reference else row.name
        steps = str(row.steps) if row.method.learns else "-"
        cells = [name, steps, str(len(pairs))]
        if ranks:
            cells.append(_cell(ranks[row.name]))
        for figure in figures:
            apart = ""
            if row.name != section.reference:
                difference = results.difference(row.name, section.reference, figure.name, pairs)
                apart = "*" if difference.low > 0 or difference.high < 0 else ""
            cells.append(_cell(results.mean(row.name, figure.name, pairs)) + apart)
        seconds = results.seconds(row.name).get(next(iter(results.machines)))
        rows.append([*cells, "-" if seconds is None else f"{seconds:.1f}"])
    return format_markdown(heads, rows)


def _votes_table(section: Section, results: Results) -> str:
    votes = section.votes or {}
    heads = ["row"]
    for about in VOTED:
        heads += [f"best {about} on % of pairs", "% of votes in the paper"]
    rows = []
    shares = {about: results.wins(section, kinds) for about, (_, kinds) in VOTED.items()}
    for row in section.rows:
        cells = [row.name]
        for about, (key, _) in VOTED.items():
            won = shares[about][row.name]
            cells.append(f"{100 * won.mean:.0f} [{100 * won.low:.0f}, {100 * won.high:.0f}]")
            vote = votes.get(row.name, {}).get(key)
            cells.append("-" if vote is None else f"{vote:g}")
        rows.append(cells)
    return format_markdown(heads, rows)


def _expectation_table(section: Section, results: Results) -> str:
    rows = []
    pairs = results.section_pairs(section)
    for expectation in section.expectations:
        difference = _difference(expectation, results, pairs)
        measured = (
            f"{expectation.figure}: {expectation.row} less {expectation.than} {_cell(difference)}"
        )
        outcome = verdict(difference, expectation.is_)
        rows.append([f"{expectation.text} ({expectation.is_})", measured, outcome])
    return format_markdown(["expected", "measured difference", "verdict"], rows)


def _difference(expectation: Expectation, results: Results, pairs: Sequence[int]) -> Interval:
    return results.difference(expectation.row, expectation.than, expectation.figure, pairs)


def _section_figures(section: Section, results: Results) -> dict[str, Any]:
    pairs = results.section_pairs(section)
    expected = [(each, _difference(each, results, pairs)) for each in section.expectations]
    return {
        "title": section.title,
        "reference": section.reference,
        "rows": [row.name for row in section.rows],
        "ranks": _intervals(results.ranks(section)) if section.is_ranked else {},
        "best": {
            about: _intervals(results.wins(section, kinds))
            for about, (_, kinds) in VOTED.items()
            if section.votes is not None
        },
        "differences": {
            row.name: {
                f.name: asdict(results.difference(row.name, section.reference, f.name, pairs))
                for f in results.bench.figures
            }
            for row in section.rows
            if row.name != section.reference
        },
        "expectations": [
            {
                **asdict(expectation),
                "difference": asdict(difference),
                "verdict": verdict(difference, expectation.is_),
            }
            for expectation, difference in expected
        ],
    }


def _row_figures(row: Row, results: Results) -> dict[str, Any]:
    bench, pairs = results.bench, results.common_pairs(row.name)
    return {
        "definition": {
            "steps": row.steps if row.method.learns else 0,
            "samples": row.samples,
            "sampling": asdict(row.sampling),
            **description(row.method),
        },
        "machines": results.runs_by_machine(row.name),
        "seconds": results.seconds(row.name),
        "means": {f.name: asdict(results.mean(row.name, f.name, pairs)) for f in bench.figures},
        "pairs": {
            bench.pairs[pair].name: run.figures
            | {"machine": run.machine, "seconds": run.seconds, "run": run.folder.name}
            for pair, run in sorted(results.runs[row.name].items())
        },
    }


def _intervals(intervals: dict[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in intervals.items()}


def _cell(interval: Interval) -> str:
    return f"{interval.mean:.3g} [{interval.low:.3g}, {interval.high:.3g}]"
