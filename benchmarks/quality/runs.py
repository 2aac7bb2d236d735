"""Running rows on pairs, each combination once: what is there is kept, what is missing is run.

A folder per combination holds its pictures and ``run.json``, which is written last. Its name is a
hash of everything that defines the result, so that nothing stale is ever read. What a method learnt
lies beside, and rows that differ in drawing alone share it.
"""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from acfun_ops.cli.picture_files import read_picture, write_picture
from acfun_ops.style.whole_files import write_whole

from .bench import Bench, Row, description
from .pairs import Drawn, LearnsOnce
from .sampling import encode_square

# Raise it when a method's code changes what it draws: stored runs are then run again.
METHODS_VERSION = 3
DONE = "run.json"
FIRST_SEED = 1000

OpenBench = Callable[[], Bench]


@dataclass(frozen=True)
class Run:
    """One row on one pair: where it is stored and what was measured."""

    row: str
    pair: int
    folder: Path
    figures: dict[str, float]
    seconds: float


def run_rows(
    open_bench: OpenBench, rows: Sequence[Row], folder: Path, workers: int = 1
) -> list[Run]:
    """Run what is missing and return everything, by row and pair.

    Args:
        open_bench: opens the bench; called once in each process, so it must be picklable. Results
            do not depend on the number of processes.
        rows: what to run.
        folder: the work folder, made if it is missing; a run that was interrupted goes on.
        workers: processes; with one, all is done in this one.
    """
    bench = open_bench()
    work = folder / bench.name
    jobs = _jobs(bench, rows, work)
    total = sum(len(job) for job in jobs)
    with tqdm(total=total, desc="runs", disable=total == 0) as progress:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                for row, index in job:
                    run_one(bench, row, index, work)
                    progress.update()
        else:
            spawn = multiprocessing.get_context("spawn")
            with spawn.Pool(workers, _open_in_worker, (open_bench, work)) as pool:
                for done in pool.imap_unordered(_run_in_worker, jobs):
                    progress.update(done)
    return [read_run(bench, row, index, work) for row in rows for index in row.pair_indices(bench)]


def measure_again(open_bench: OpenBench, rows: Sequence[Row], folder: Path) -> None:
    """Compute the figures of all stored runs anew, from their pictures."""
    bench = open_bench()
    for row in tqdm(rows, desc="measuring"):
        for index in row.pair_indices(bench):
            path = run_folder(bench, row, index, folder / bench.name)
            if (path / DONE).exists():
                _measure(bench, index, path, json.loads((path / DONE).read_text()))


def run_one(bench: Bench, row: Row, index: int, work: Path) -> None:
    """Run a row on a pair, store its pictures and measure them."""
    pair, method = bench.pairs[index], row.method
    learnt, learning = learn_row(bench, row, index, work)
    start = time.perf_counter()
    noise = pair_noise(bench, index, row.samples)
    samples, other = method.draw(bench.backbone, pair, learnt, noise, row.sampling)
    seconds = learning + time.perf_counter() - start
    path = run_folder(bench, row, index, work)
    path.mkdir(parents=True, exist_ok=True)
    for name, pictures in (("sample", samples), ("other", other)):
        for number, picture in enumerate(pictures):
            write_picture(picture[None], path / f"{name}_{number}.png")
    facts = {"row": row.name, "pair": pair.name, "seconds": seconds, **_definition(row)}
    _measure(bench, index, path, facts)


def learn_row(bench: Bench, row: Row, index: int, work: Path) -> tuple[Path, float]:
    """Learn from a pair unless that is done; return the file, and how long it took.

    What a method learns once for all pairs is no pair's time.
    """
    learnt = work / "learnt" / f"{_learnt_name(bench, row, index)}.safetensors"
    method = row.method.learnt_as()
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


def read_run(bench: Bench, row: Row, index: int, work: Path) -> Run:
    """Return a stored run."""
    path = run_folder(bench, row, index, work)
    facts = json.loads((path / DONE).read_text())
    return Run(row.name, index, path, facts["figures"], facts["seconds"])


def read_drawn(path: Path, seconds: float = 0.0) -> Drawn:
    """Return the pictures of a stored run."""
    samples, other = (
        torch.cat([read_picture(file) for file in _numbered(path, name)])
        for name in ("sample", "other")
    )
    return Drawn(samples=samples, other=other, seconds=seconds)


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


def _learnt_name(bench: Bench, row: Row, index: int) -> str:
    pair = [] if isinstance(row.method, LearnsOnce) else [bench.pairs[index].digest, index]
    return _digest(bench, *pair, row.steps, description(row.method.learnt_as()))


def _digest(bench: Bench, *parts: Any) -> str:
    whole = [METHODS_VERSION, bench.backbone.fingerprint, *parts]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def _jobs(bench: Bench, rows: Sequence[Row], work: Path) -> list[list[tuple[Row, int]]]:
    """Return what is missing; what shares its learning is one job, so that no two learn it.

    What is learnt once for all pairs takes longest and comes first.
    """
    jobs: dict[str, list[tuple[Row, int]]] = {}
    seen = set()
    for row in rows:
        for index in row.pair_indices(bench):
            path = run_folder(bench, row, index, work)
            if path not in seen and not (path / DONE).exists():
                seen.add(path)
                jobs.setdefault(_learnt_name(bench, row, index), []).append((row, index))
    return sorted(jobs.values(), key=lambda job: not isinstance(job[0][0].method, LearnsOnce))


def _measure(bench: Bench, index: int, path: Path, facts: dict[str, Any]) -> None:
    """Measure stored pictures, so that figures never depend on when they are computed."""
    figures = bench.measure(index, read_drawn(path, facts["seconds"]))
    for figure in bench.figures:
        if not np.isfinite(figures.get(figure.name, np.nan)):
            raise ValueError(f"{path.name}: the figure '{figure.name}' is missing or not finite")
    facts["figures"] = {name: float(value) for name, value in figures.items()}
    write_whole(json.dumps(facts, indent=1).encode(), path / DONE, "run")


def _numbered(path: Path, name: str) -> Iterator[Path]:
    return iter(sorted(path.glob(f"{name}_*.png"), key=lambda f: int(f.stem.split("_")[1])))


_worker: dict[str, Any] = {}


def _open_in_worker(open_bench: OpenBench, work: Path) -> None:
    # Processes share the cores already.
    torch.set_num_threads(1)
    _worker.update(bench=open_bench(), work=work)


def _run_in_worker(job: list[tuple[Row, int]]) -> int:
    for row, index in job:
        run_one(_worker["bench"], row, index, _worker["work"])
    return len(job)
