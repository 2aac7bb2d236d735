"""Which block's adapter does what: each alone, and each on top of all others.

    python -m evaluation.blocks [--pairs 3]

Writes ``blocks.md`` and a heat map, ``blocks.jpg``. What a run of ``python -m evaluation nano``
learnt is used again. The abstract part acts fully throughout.
"""

import argparse
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from acfun_ops.contact_sheet import SheetRow, contact_sheet
from acfun_ops.method.injection import parts_of

from .benchmark import Bench, MethodResult, Task
from .methods.acfun import Acfun
from .runs import RESULTS, WORK, learn_row, pair_noise
from .sections.rows import BASE_ROW
from .sheets import format_markdown, write_sheet
from .toy_benchmark import FIGURES, open_bench

PAIRS, SAMPLES = 3, 2
HEADINGS = {
    "texture": "strokes",
    "colour": "colours",
    "landmarks": "landmarks",
    "face": "attributes",
    "structure": "true layout",
    "layout": "sitter's layout",
}
CELL = (130, 34)
_INK, _PALE, _PAPER = (24, 24, 24), (150, 150, 150), (250, 250, 248)
_BETTER, _WORSE = (64, 150, 220), (230, 130, 60)
Figures = Mapping[str, float]


class Effect(NamedTuple):
    """What adapters add to a figure: the mean over pairs, and its standard error."""

    mean: float
    error: float


def main() -> None:
    """Sample, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    bench = open_bench(options.pairs)
    added = effects(
        [pair_figures(bench, i, options.work / bench.name) for i in range(options.pairs)]
    )
    folder = options.results or RESULTS / bench.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "blocks.md").write_text(table(added), encoding="utf-8")
    write_sheet(heat_map(added), folder / "blocks.jpg")


def groups_of(blocks: Collection[str]) -> dict[str, set[str]]:
    """Return what is tried, by name: each block, and both halves."""
    parts = parts_of(blocks)
    halves = {
        f"the {part}": {block for block in blocks if parts[block] == part}
        for part in ("encoder", "decoder")
    }
    return {block: {block} for block in blocks} | halves


def pair_figures(bench: Bench, index: int, work: Path) -> dict[str, Figures]:
    """Return a pair's figures, by what acts: "none", "all", "alone NAME" and "without NAME"."""
    row = replace(BASE_ROW, samples=SAMPLES)
    learnt, _ = learn_row(bench, row, index, work)
    noise = pair_noise(bench, index, SAMPLES)
    task = Task(bench.backbone, bench.pairs[index], learnt, noise, row.sampling)
    blocks = dict(sorted(bench.backbone.insert_points("resblock").items()))
    acting: dict[str, Collection[str]] = {"none": (), "all": blocks}
    for name, group in groups_of(blocks).items():
        acting |= {f"alone {name}": group, f"without {name}": blocks.keys() - group}
    return {name: _measure(bench, index, task, some) for name, some in acting.items()}


def _measure(bench: Bench, index: int, task: Task, blocks: Collection[str]) -> Figures:
    images = Acfun().draw(task, task.pair.prompt, blocks)
    return bench.measure(index, MethodResult(samples=images, other=images))


def effects(pairs: list[dict[str, Figures]]) -> dict[str, dict[str, Effect]]:
    """Return what each block adds to each figure, alone and on top of all others.

    Args:
        pairs: of each pair, what :func:`pair_figures` returns; two or more.
    """
    names = [name.removeprefix("alone ") for name in pairs[0] if name.startswith("alone ")]
    compared = {f"{name}, alone": (f"alone {name}", "none") for name in names}
    compared |= {f"{name}, last": ("all", f"without {name}") for name in names}
    return {
        label: {
            figure: _effect([pair[more][figure] - pair[less][figure] for pair in pairs])
            for figure in HEADINGS
        }
        for label, (more, less) in compared.items()
    }


def _effect(added: list[float]) -> Effect:
    return Effect(float(np.mean(added)), float(np.std(added, ddof=1) / len(added) ** 0.5))


def table(added: Mapping[str, Mapping[str, Effect]]) -> str:
    """Return the effects and their standard errors, in Markdown."""
    rows = [
        [name, *(f"{one.mean:+.3f} +- {one.error:.3f}" for one in row.values())]
        for name, row in added.items()
    ]
    return format_markdown(["adapter of", *HEADINGS.values()], rows)


def heat_map(added: Mapping[str, Mapping[str, Effect]]) -> Image.Image:
    """Return the effects as a sheet: blue is better, orange worse, white within two errors."""
    most = {f: max(abs(row[f].mean) for row in added.values()) or 1.0 for f in HEADINGS}
    better = {one.name: 1 if one.better == "higher" else -1 for one in FIGURES}
    rows = [
        SheetRow(name, [_cell(one, better[f] * one.mean / most[f]) for f, one in row.items()])
        for name, row in added.items()
    ]
    return contact_sheet(list(HEADINGS.values()), rows, *CELL)


def _cell(effect: Effect, gain: float) -> Image.Image:
    """Return an effect in writing; gain: -1 (worst) to 1 (best), its colour unless it is chance."""
    is_sure = abs(effect.mean) > 2 * effect.error
    tint = Image.new("RGB", CELL, _BETTER if gain > 0 else _WORSE)
    cell = Image.blend(Image.new("RGB", CELL, _PAPER), tint, abs(gain) if is_sure else 0)
    ink, place = _INK if is_sure else _PALE, (CELL[0] / 2, CELL[1] / 2)
    font = ImageFont.load_default(15)
    ImageDraw.Draw(cell).text(place, f"{effect.mean:+.3f}", ink, font, anchor="mm")
    return cell


if __name__ == "__main__":
    main()
