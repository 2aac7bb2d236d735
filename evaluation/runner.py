"""Run what is missing of many rows, on several processes and within a time.

What is pretrained once for all pairs comes first, in parallel with what does not wait for it.
"""

import logging
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .benchmark import Bench, LearnsOnce, Row
from .runs import (
    LEARNT,
    Run,
    is_done,
    learn_row,
    measure_one,
    read_run,
    run_folder,
    run_one,
    training_name,
)

# How long what is running at the end of the time may go on for.
GRACE = 15.0

OpenBench = Callable[[], Bench]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What one process does in a row: runs that share what they learn.

    learnt: its name. runs: rows and pairs. pretrains: a row and a pair, for a job that has no
    runs but pretrains what other jobs of that name wait for.
    """

    learnt: str
    runs: tuple[tuple[Row, int], ...] = ()
    pretrains: tuple[Row, int] | None = None


def run_rows(
    open_bench: OpenBench,
    rows: Sequence[Row],
    folder: Path,
    workers: int = 1,
    seconds: float = math.inf,
) -> list[Run]:
    """Run what is missing and return everything that is there, by row and pair.

    Args:
        open_bench: opens the bench; called once in each process, so it must be picklable. Results
            do not depend on the number of processes.
        rows: what to run.
        folder: the work folder, made if it is missing; a run that was interrupted goes on.
        workers: processes; with one, all is done in this one.
        seconds: after them nothing is begun; what other processes are at may go on for a little.

    Raises:
        Exception: the first that a run failed with; those of other processes go on before that.
        BrokenProcessPool: a process died, for example of too little memory.
    """
    ends = time.time() + seconds
    bench = open_bench()
    work = folder / bench.name
    jobs = jobs_of(bench, rows, work)
    for job in jobs:
        if job.pretrains is not None and isinstance(job.pretrains[0].method, LearnsOnce):
            job.pretrains[0].method.prepare(work / LEARNT, workers)
    total = sum(len(job.runs) for job in jobs)
    with tqdm(total=total, desc="runs", disable=total == 0) as progress:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                progress.update(_do(bench, job, work, ends))
        else:
            for done in _run_in_processes(open_bench, work, jobs, workers, ends):
                progress.update(done)
    pairs = [(row, index) for row in rows for index in row.pair_indices(bench)]
    return [read_run(bench, *pair, work) for pair in pairs if is_done(bench, *pair, work)]


def measure_again(open_bench: OpenBench, rows: Sequence[Row], folder: Path) -> None:
    """Compute the figures of all stored runs anew, from their images."""
    bench = open_bench()
    work = folder / bench.name
    for row in tqdm(rows, desc="measuring"):
        for index in row.pair_indices(bench):
            if is_done(bench, row, index, work):
                measure_one(bench, row, index, work)


def jobs_of(bench: Bench, rows: Sequence[Row], work: Path) -> list[Job]:
    """Return what is missing, in the order of the rows, after what is pretrained once.

    What shares its learning is one job, so that no two learn it.
    """
    shared: dict[str, list[tuple[Row, int]]] = {}
    pretraining: dict[str, Job] = {}
    seen = set()
    for row in rows:
        for index in row.pair_indices(bench):
            path = run_folder(bench, row, index, work)
            if path in seen or is_done(bench, row, index, work):
                continue
            seen.add(path)
            learnt = training_name(bench, row, index)
            if isinstance(row.method, LearnsOnce):
                pretraining.setdefault(learnt, Job(learnt, pretrains=(row, index)))
                shared[path.name] = [(row, index)]
            else:
                shared.setdefault(learnt, []).append((row, index))
    rest = [Job(training_name(bench, *runs[0]), tuple(runs)) for runs in shared.values()]
    return [*pretraining.values(), *rest]


def _run_in_processes(
    open_bench: OpenBench, work: Path, jobs: Sequence[Job], workers: int, ends: float
) -> Iterator[int]:
    """Do jobs; yield the number of runs of each that is done."""
    unfinished = {job.learnt for job in jobs if job.pretrains is not None}
    waiting, failed = list(jobs), []
    running: set[Future[tuple[Job, int]]] = set()
    ends_all = ends + GRACE
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _open_in_worker, (open_bench, work, ends_all)) as pool:
        while True:
            while len(running) < workers and time.time() < ends:
                job = next((j for j in waiting if j.pretrains or j.learnt not in unfinished), None)
                if job is None:
                    break
                waiting.remove(job)
                running.add(pool.submit(_do_in_worker, job, ends))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            if not done:
                break
            for future in done:
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    if time.time() < ends_all:
                        raise error
                elif error is not None:
                    log.error("A run failed, and the others go on: %r", error)
                    failed.append(error)
                else:
                    job, runs = future.result()
                    unfinished -= {job.learnt} if job.pretrains else set()
                    yield runs
    if failed:
        raise failed[0]


def _do(bench: Bench, job: Job, work: Path, ends: float) -> int:
    """Do a job while there is time, and return how many runs of it are done."""
    done = 0
    if job.pretrains is not None and time.time() < ends:
        learn_row(bench, *job.pretrains, work)
    for row, index in job.runs:
        if time.time() >= ends:
            break
        run_one(bench, row, index, work)
        done += 1
    return done


_worker: dict[str, Any] = {}


def _open_in_worker(open_bench: OpenBench, work: Path, ends_all: float) -> None:
    if math.isfinite(ends_all):
        # What still runs then is no run: a run counts only when its last file is written.
        end = threading.Timer(ends_all - time.time(), os._exit, [0])
        end.daemon = True
        end.start()
    # Processes share the cores already.
    torch.set_num_threads(1)
    _worker.update(bench=open_bench(), work=work)


def _do_in_worker(job: Job, ends: float) -> tuple[Job, int]:
    return job, _do(_worker["bench"], job, _worker["work"], ends)
