"""One row on one pair: how it is run, where it is stored and what is read back.

A folder per combination holds its images and ``run.json``, which is written last. Its name is a
hash of everything that defines the result, so that nothing stale is ever read. What a method learnt
lies in another folder, and rows that differ only in generating share it.
"""

import hashlib
import json
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acfun_ops.file_io import write_whole
from acfun_ops.image_files import read_image, write_image

from .benchmark import Bench, LearnsOnce, MethodResult, Row, Task, description
from .methods.peers import encode_square

WORK = Path("out/quality")
RESULTS = Path(__file__).parent / "results"
# Raise it when a method's code changes what it generates: stored runs are then run again.
METHODS_VERSION = 3
DONE = "run.json"
LEARNT = "learnt"
FIRST_SEED = 1000


@dataclass(frozen=True)
class Run:
    """One row on one pair: where it is stored, what was measured, and on what machine it ran."""

    row: str
    pair: int
    folder: Path
    figures: dict[str, float]
    seconds: float
    machine: str


def run_one(bench: Bench, row: Row, index: int, work: Path) -> None:
    """Run a row on a pair, store its images and measure them."""
    pair, method = bench.pairs[index], row.method
    learnt, learning = learn_row(bench, row, index, work)
    start = time.perf_counter()
    noise = pair_noise(bench, index, row.samples)
    samples, other = method.generate(Task(bench.backbone, pair, learnt, noise, row.sampling))
    seconds = learning + time.perf_counter() - start
    path = run_folder(bench, row, index, work)
    path.mkdir(parents=True, exist_ok=True)
    for name, images in (("sample", samples), ("other", other)):
        for number, image in enumerate(images):
            write_image(image[None], path / f"{name}_{number}.png")
    figures = _measure(bench, index, path)
    machine = machine_of(bench.backbone.device)
    store_run(bench, row, Run(row.name, index, path, figures, seconds, machine))


def measure_one(bench: Bench, row: Row, index: int, work: Path) -> None:
    """Compute the figures of a stored run anew, from its images; forget a run without any."""
    run = read_run(bench, row, index, work)
    if not has_images(run.folder):
        (run.folder / DONE).unlink()
        return
    figures = _measure(bench, index, run.folder)
    store_run(bench, row, replace(run, figures=figures))


def store_run(bench: Bench, row: Row, run: Run) -> None:
    """Store what was measured of a run, which is then complete."""
    run.folder.mkdir(parents=True, exist_ok=True)
    facts = {"row": run.row, "pair": bench.pairs[run.pair].name, "seconds": run.seconds}
    facts |= {**_definition(row), "machine": run.machine, "figures": run.figures}
    write_whole(json.dumps(facts, indent=1).encode(), run.folder / DONE, "run")


def learn_row(bench: Bench, row: Row, index: int, work: Path) -> tuple[Path, float]:
    """Learn from a pair unless that is done; return the file, and how long it took.

    What a method learns once for all pairs is no pair's time.
    """
    learnt = work / LEARNT / f"{training_name(bench, row, index)}.safetensors"
    method = row.method.training_key()
    if not method.learns:
        return learnt, 0.0
    timing = learnt.with_suffix(".json")
    if not timing.exists():
        start = time.perf_counter()
        method.learn(bench.backbone, bench.pairs[index], row.steps, learnt)
        seconds = time.perf_counter() - start
        write_whole(json.dumps({"seconds": seconds}).encode(), timing, "timing")
    stored: float = json.loads(timing.read_text())["seconds"]
    return learnt, 0.0 if isinstance(method, LearnsOnce) else stored


def take_published(bench: Bench, rows: Sequence[Row], figures: Path, work: Path) -> None:
    """Store the runs of a report that are not stored yet, with their figures and no images.

    A published run is known by the name of its folder, so that none is taken after anything that
    defines it has changed. Nothing is taken where the report's ``figures.json`` is missing.
    """
    published = _read_published(figures)
    for row in rows:
        for index in row.pair_indices(bench):
            folder = run_folder(bench, row, index, work)
            facts = published.get(folder.name)
            if facts is not None and not (folder / DONE).exists():
                measured = {figure.name: facts[figure.name] for figure in bench.figures}
                run = Run(row.name, index, folder, measured, facts["seconds"], facts["machine"])
                store_run(bench, row, run)


def _read_published(figures: Path) -> dict[str, dict[str, Any]]:
    if not figures.exists():
        return {}
    rows = json.loads(figures.read_text(encoding="utf-8"))["rows"]
    pairs = [facts for row in rows.values() for facts in row["pairs"].values()]
    return {facts["run"]: facts for facts in pairs}


def read_run(bench: Bench, row: Row, index: int, work: Path) -> Run:
    """Return a stored run."""
    path = run_folder(bench, row, index, work)
    facts = json.loads((path / DONE).read_text())
    return Run(row.name, index, path, facts["figures"], facts["seconds"], facts["machine"])


def is_done(bench: Bench, row: Row, index: int, work: Path) -> bool:
    """Tell whether a row's run on a pair is stored completely."""
    return (run_folder(bench, row, index, work) / DONE).exists()


def has_images(path: Path) -> bool:
    """Tell whether a run's images are stored; a published run has only its figures."""
    return any(_image_files(path, "sample"))


def read_result(path: Path) -> MethodResult:
    """Return the images of a stored run."""
    samples, other = (
        torch.cat([read_image(file) for file in _image_files(path, name)])
        for name in ("sample", "other")
    )
    return MethodResult(samples=samples, other=other)


def machine_of(device: torch.device) -> str:
    """Return the machine that a device is in, in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{platform.machine()}, {name}, torch {torch.__version__}"


def pair_noise(bench: Bench, index: int, samples: int) -> Tensor:
    """Return a pair's noise ``(samples, c, h, w)``, the same for every row."""
    shape = encode_square(bench.backbone, bench.pairs[index].face).shape[1:]
    generator = torch.Generator().manual_seed(FIRST_SEED + index)
    return torch.randn((samples, *shape), generator=generator)


def run_folder(bench: Bench, row: Row, index: int, work: Path) -> Path:
    """Return where a row's run on a pair is stored."""
    pair = [bench.pairs[index].digest, index]
    digest = _digest(bench, *pair, _definition(row), row.samples)
    return work / "runs" / f"{bench.pairs[index].name}-{digest}"


def _definition(row: Row) -> dict[str, Any]:
    method = row.method
    steps = row.steps if method.learns else 0
    return {"steps": steps, "sampling": asdict(row.sampling), **description(method)}


def training_name(bench: Bench, row: Row, index: int) -> str:
    """Return what names the file of what a row learns from a pair."""
    pair = [] if isinstance(row.method, LearnsOnce) else [bench.pairs[index].digest, index]
    return _digest(bench, *pair, row.steps, description(row.method.training_key()))


def _digest(bench: Bench, *parts: Any) -> str:
    definition = [METHODS_VERSION, bench.backbone.fingerprint, *parts]
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:16]


def _measure(bench: Bench, index: int, path: Path) -> dict[str, float]:
    """Measure stored images, so that figures never depend on when they are computed."""
    figures = bench.measure(index, read_result(path))
    for figure in bench.figures:
        if not np.isfinite(figures.get(figure.name, np.nan)):
            raise ValueError(f"{path.name}: the figure '{figure.name}' is missing or not finite")
    return {name: float(value) for name, value in figures.items()}


def _image_files(path: Path, name: str) -> Iterator[Path]:
    return iter(sorted(path.glob(f"{name}_*.png"), key=lambda f: int(f.stem.split("_")[1])))
