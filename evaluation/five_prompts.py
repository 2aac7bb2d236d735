"""Images that the report lacks: five prompts in each style, and the README's first image.

    python -m evaluation.five_prompts [--readme]

Our images stand next to InstantStyle's, with the ratio of prompts that are followed. What a run of
``python -m evaluation nano`` learnt is used again. ``--readme`` trains anew and writes the README's
first image: what the small prior generates for a few pairs.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from acfun_ops.contact_sheet import SheetRow, contact_sheet
from acfun_ops.image_files import to_pil
from evaluation.toy.captions import describe
from evaluation.toy.evaluation_pairs import make_pair
from evaluation.toy.people import Person
from evaluation.toy.reader import GROUPS, attributes_of, load_reader

from .benchmark import Bench, Row, Task, prompt_of
from .report.results import bootstrap_mean
from .runs import RESULTS, WORK, learn_row, pair_noise
from .sections.rows import INSTANT_STYLE, OUR_METHOD, OUR_ROW, OURS, PEERS, make_row
from .sheets import format_markdown, write_sheet
from .toy_benchmark import add_options, open_bench

ROWS = {OURS: OUR_ROW, INSTANT_STYLE: make_row(INSTANT_STYLE, PEERS[INSTANT_STYLE])}
CHANGED = ("hat", "glasses", "smile", "hair_length", "hair_color")
HEADERS = [group.replace("_", " ") for group in CHANGED]
PAIRS, SHOWN, SIDE = 10, 4, 96
README_IMAGE = Path(__file__).resolve().parents[1] / "web" / "pictures" / "pairs.jpg"
README_PAIRS, README_SEED, README_SIDE = (8, 5), 3, 240
README_COLUMNS = ("style picture", "face photo", "result", "in a hat", "dark hair")


def main() -> None:
    """Generate, read the attributes, and write ``five-prompts.md`` and ``five-prompts.jpg``."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.set_defaults(pairs=PAIRS)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--readme", action="store_true", help="the README's first image instead")
    options = parser.parse_args()
    if options.readme:
        readme_sheet(open_bench(max(README_PAIRS) + 1)).save(README_IMAGE, quality=80)
        return
    bench = open_bench(options.pairs, options.device)
    work, folder = options.work / bench.name, options.results or RESULTS / bench.name
    results = {
        (name, index): generate_changed(bench, row, index, work)
        for index in range(len(bench.pairs))
        for name, row in ROWS.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "five-prompts.md").write_text(table(results), encoding="utf-8")
    write_sheet(sheet(bench, results), folder / "five-prompts.jpg")


def people_of_prompts(person: Person) -> dict[str, Person]:
    """Return the person five times, each with another attribute than the photo's."""
    changed = {}
    for group in CHANGED:
        value = getattr(person, group)
        words = GROUPS[group]
        other: Any = not value
        if value in words:
            other = words[(words.index(value) + 1) % len(words)]
        changed[group] = replace(person, **{group: other})
    return changed


def generate_changed(bench: Bench, row: Row, index: int, work: Path) -> Tensor:
    """Return one image for each of a pair's five prompts ``(5, s, s, 3)``, from one noise."""
    pair, person = bench.pairs[index], make_pair(index).person
    learnt, _ = learn_row(bench, row, index, work)
    noise = pair_noise(bench, index, 1)
    images = []
    for changed in people_of_prompts(person).values():
        asked = replace(pair, other_prompt=prompt_of(describe(changed)))
        task = Task(bench.backbone, asked, learnt, noise, row.sampling)
        images.append(row.method.generate(task)[1])
    return torch.cat(images)


def are_followed(pair: int, images: Tensor) -> list[bool]:
    """Return which of the five prompts the reader sees in the images of a pair."""
    people = people_of_prompts(make_pair(pair).person)
    read = load_reader().read(images).attributes
    return [
        int(read[group][number].argmax()) == attributes_of(person)[group]
        for number, (group, person) in enumerate(people.items())
    ]


def table(results: dict[tuple[str, int], Tensor]) -> str:
    """Return the shares of prompts that are followed, in Markdown."""
    rows = []
    for name in ROWS:
        right = np.array(
            [are_followed(pair, images) for (row, pair), images in results.items() if row == name],
            dtype=np.float64,
        )
        mean = bootstrap_mean(right.mean(axis=1))
        cells = [f"{share:.2f}" for share in right.mean(axis=0)]
        cells.append(f"{mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}]")
        rows.append([name, *cells])
    return format_markdown(["row", *HEADERS, "all five"], rows)


def sheet(bench: Bench, results: dict[tuple[str, int], Tensor]) -> Image.Image:
    """Return a contact sheet of a few pairs: style, face, and the five prompts of each row."""
    lines: list[SheetRow] = []
    for index in range(min(SHOWN, len(bench.pairs))):
        pair = bench.pairs[index]
        for name in ROWS:
            images: Sequence[Tensor] = [pair.style, pair.face, *results[name, index]]
            line = SheetRow(f"{name} on {pair.name}", [to_pil(image[None]) for image in images])
            lines.append(line)
    return contact_sheet(["style", "face", *HEADERS], lines, SIDE)


def readme_sheet(bench: Bench) -> Image.Image:
    """Return the README's first image: two pairs, one seed, the training's prompt and two more."""
    generator = torch.Generator().manual_seed(README_SEED)
    noise = torch.randn(pair_noise(bench, 0, 1).shape, generator=generator)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for index in README_PAIRS:
            pair, learnt = bench.pairs[index], Path(folder) / f"{index}.safetensors"
            OUR_METHOD.learn(bench.backbone, pair, OUR_ROW.steps, learnt)
            task = Task(bench.backbone, pair, learnt, noise, OUR_ROW.sampling)
            changed = people_of_prompts(make_pair(index).person)
            prompts = [pair.prompt]
            prompts += [prompt_of(describe(changed[group])) for group in ("hat", "hair_color")]
            images = [pair.style, pair.face, *(OUR_METHOD.draw(task, one)[0] for one in prompts)]
            rows.append(SheetRow(pair.prompt, [to_pil(one[None]) for one in images]))
    return contact_sheet(README_COLUMNS, rows, README_SIDE)


if __name__ == "__main__":
    main()
