"""Run what is missing of many rows, on several processes and within a time.

What is pretrained once for all pairs comes first.
"""

import logging
import math
import multiprocessing
import multiprocessing.context
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from . import runs
from .benchmark import Bench, LearnsOnce, Row

OpenBench = Callable[[], Bench]
Job = Sequence[tuple[Row, int]]
"""Rows and pairs that one process runs, one after the other, as they share what they learn."""

log = logging.getLogger(__name__)


def run_rows(
    open_bench: OpenBench,
    rows: Sequence[Row],
    folder: Path,
    workers: int = 1,
    seconds: float = math.inf,
) -> list[runs.Run]:
    """Run what is missing and return everything that is there, by row and pair.

    Args:
        open_bench: opens the bench; called once in each process, so it must be picklable. Results
            do not depend on the number of processes.
        rows: what to run.
        folder: the work folder, made if it is missing; a run that was interrupted goes on.
        workers: processes; with one, all is done in this one.
        seconds: after them nothing is begun; what has begun is brought to its end.

    Raises:
        Exception: the first that a run failed with; those of other processes go on before that. A
            pretraining that fails ends it before any run.
        BrokenProcessPool: a process died, for example of too little memory.
    """
    ends = time.time() + seconds
    bench = open_bench()
    work = folder / bench.name
    pretrainings, jobs = jobs_of(bench, rows, work)
    for row, _ in pretrainings:
        if isinstance(row.method, LearnsOnce):
            row.method.prepare(work / runs.LEARNT, workers)
    with ExitStack() as stack:
        do: Callable[..., Iterator[Any]] = map
        if workers == 1 or len(jobs) < 2:
            _opened.update(bench=bench, work=work, ends=ends)
        else:
            opening = _open_in_worker, (open_bench, work, ends)
            pool = stack.enter_context(ProcessPoolExecutor(workers, _start_method(), *opening))
            do = partial(_results, pool)
        progress = stack.enter_context(tqdm(total=sum(map(len, jobs)), desc="runs"))
        list(do(_pretrain, pretrainings))
        for done in do(_run_job, jobs):
            progress.update(done)
    pairs = [(row, index) for row in rows for index in row.pair_indices(bench)]
    return [runs.read_run(bench, *pair, work) for pair in pairs if runs.is_done(bench, *pair, work)]


def measure_again(open_bench: OpenBench, rows: Sequence[Row], folder: Path) -> None:
    """Compute the figures of all stored runs anew, from their images."""
    bench = open_bench()
    work = folder / bench.name
    for row in tqdm(rows, desc="measuring"):
        for index in row.pair_indices(bench):
            if runs.is_done(bench, row, index, work):
                runs.measure_one(bench, row, index, work)


def jobs_of(
    bench: Bench, rows: Sequence[Row], work: Path
) -> tuple[list[tuple[Row, int]], list[Job]]:
    """Return what is to be pretrained, by a row and a pair, and what is missing, as the rows go.

    What shares its learning from a pair is one job, so that no two learn it.
    """
    shared: dict[str, list[tuple[Row, int]]] = {}
    pretrainings: dict[str, tuple[Row, int]] = {}
    seen = set()
    for row in rows:
        for index in row.pair_indices(bench):
            path = runs.run_folder(bench, row, index, work)
            if path in seen or runs.is_done(bench, row, index, work):
                continue
            seen.add(path)
            learnt = runs.training_name(bench, row, index)
            if isinstance(row.method, LearnsOnce):
                pretrainings.setdefault(learnt, (row, index))
                learnt = path.name
            shared.setdefault(learnt, []).append((row, index))
    return list(pretrainings.values()), list(shared.values())


def _results(
    pool: ProcessPoolExecutor, do: Callable[[Any], Any], jobs: Sequence[Any]
) -> Iterator[Any]:
    """Yield what each job returns, as it is done; raise the first error once all are."""
    errors = []
    for future in as_completed([pool.submit(do, job) for job in jobs]):
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise error
        if error is None:
            yield future.result()
        else:
            log.error("A run failed, and the others go on: %r", error)
            errors.append(error)
    if errors:
        raise errors[0]


def _start_method() -> multiprocessing.context.BaseContext:
    """Return how processes start: from one that has imported the libraries, where there is one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload([__name__])
    return start


# What this process works with.
_opened: dict[str, Any] = {}


def _open_in_worker(open_bench: OpenBench, work: Path, ends: float) -> None:
    # Processes share the cores already.
    torch.set_num_threads(1)
    _opened.update(bench=open_bench(), work=work, ends=ends)


def _pretrain(pretraining: tuple[Row, int]) -> None:
    if time.time() < _opened["ends"]:
        runs.learn_row(_opened["bench"], *pretraining, _opened["work"])


def _run_job(job: Job) -> int:
    """Run a job while there is time, and return how many runs of it are done."""
    for number, (row, index) in enumerate(job):
        if time.time() >= _opened["ends"]:
            return number
        runs.run_one(_opened["bench"], row, index, _opened["work"])
    return len(job)
