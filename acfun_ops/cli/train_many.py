"""The command ``train-many``: each pair of a list becomes a style, as a task on Ray."""

import csv
import io
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from typing import get_args

from ..errors import ACFunError
from ..file_io import write_whole
from .pair_list import Pair, read_pairs
from .pair_training import Ending, Outcome, Source, are_done, train_pair
from .ray_cluster import Cluster, is_cancelled, reason_of
from .terminal import Progress, interrupts, note, say
from .training_options import chosen_training
from .training_run import check_style_path

RESULTS = "results.csv"
COLUMNS = ("name", "style", "face", "outcome", "steps", "seconds", "file", "note")
_LOOK_EVERY = 0.5


def run(options: Namespace) -> int:
    """Train every pair that is not done yet, and return the exit code.

    Raises:
        ACFunError: a mistake in the list, its pictures, the folders or the cluster.
    """
    pairs = read_pairs(options.pairs, options.out, asdict(chosen_training(options)))
    check_style_path(pairs[0].out)
    encoder = None if options.clip_vision is None else options.clip_vision.resolve()
    source = Source(options.model.resolve(), encoder, options.device)
    with (
        interrupts() as wants_stop,
        Cluster(options.address, options.device != "cpu", options.cpus_per_task) as cluster,
    ):
        where = f"{cluster.gpus} GPUs" if cluster.on_gpus else f"{cluster.cpus} CPU cores"
        say(f"{len(pairs)} pairs on {where}.")
        table = _Table(options.out / RESULTS, pairs)
        for pair in _done_before(cluster, wants_stop, source, pairs):
            table.endings[pair.name] = Ending(outcome="done before", steps=pair.config.steps)
        table.write()
        for pair in pairs:
            if pair.name not in table.endings:
                cluster.start(pair.name, train_pair, source, pair)
        with Progress("pairs", len(pairs), first=len(table.endings)) as progress:
            for name, result in _results(cluster, wants_stop):
                table.endings[name] = _ending(result)
                _write_or_say(table)
                progress.reach(len(table.endings), failed=str(table.count("failed")))
    say(table.summary())
    if table.count("stopped"):
        return 130
    return 1 if table.count("failed") else 0


class _Table:
    """How each pair ended, as a file that is whole at any time."""

    def __init__(self, path: Path, pairs: Sequence[Pair]) -> None:
        self.path, self.pairs = path, pairs
        self.endings: dict[str, Ending] = {}

    def count(self, outcome: Outcome) -> int:
        return sum(ending.outcome == outcome for ending in self.endings.values())

    def write(self) -> None:
        """Write a line for each pair that has ended, in the order of the list."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for pair in self.pairs:
            if (end := self.endings.get(pair.name)) is not None:
                facts = [end.outcome, end.steps, f"{end.seconds:.1f}", pair.out, end.note]
                writer.writerow([pair.name, pair.style, pair.face, *facts])
        write_whole(text.getvalue().encode(), self.path, "table of results")

    def summary(self) -> str:
        """Return a sentence of how many pairs ended how, and the failures, one a line."""
        counts = [f"{self.count(o)} {o}" for o in get_args(Outcome) if self.count(o)]
        failed = [f"  {n}: {e.note}" for n, e in self.endings.items() if e.outcome == "failed"]
        sentence = f"{', '.join(counts)}. The table of results is {self.path}."
        return "\n".join([sentence, *failed])


def _write_or_say(table: _Table) -> None:
    # Trainings go on while the table is open elsewhere; the next ending writes it whole.
    try:
        table.write()
    except ACFunError as error:
        note(f"note: {error}")


def _done_before(
    cluster: Cluster, wants_stop: Callable[[], bool], source: Source, pairs: Sequence[Pair]
) -> list[Pair]:
    """Return the pairs whose finished style is there already, so that nothing is started for them.

    One task for all of them, because it has to load the model.
    """
    there = [pair for pair in pairs if pair.out.exists()]
    if not there:
        return []
    say(f"Looking at the {len(there)} styles that are there already.")
    cluster.start("looking", are_done, source, there)
    [(_, done)] = _results(cluster, wants_stop)
    # If looking failed, each training looks for itself and says why.
    return list(compress(there, done)) if isinstance(done, list) else []


def _results(cluster: Cluster, wants_stop: Callable[[], bool]) -> Iterator[tuple[str, object]]:
    """Yield the tasks' keys and results as they end; the user's wish to stop cancels the rest."""
    is_stopping = False
    while cluster.tasks:
        if wants_stop() and not is_stopping:
            is_stopping = True
            note("Stopping after the current step of each training; Ctrl-C again stops at once.")
            cluster.cancel()
        yield from cluster.ended(_LOOK_EVERY)


def _ending(result: object) -> Ending:
    if isinstance(result, Ending):
        return result
    if is_cancelled(result):
        return Ending(outcome="stopped", note="Stopped before its first step.")
    return Ending(outcome="failed", note=reason_of(result))
