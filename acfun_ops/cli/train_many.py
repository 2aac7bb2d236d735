"""The command ``train-many``: each pair of a list becomes a style, as a task on Ray."""

import csv
import io
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from typing import get_args

from ..errors import ACFunError
from ..file_io import write_whole
from .pair_list import Pair, read_pairs
from .pair_training import Outcome, PairResult, PipelineSource, are_done, train_pair
from .pipeline import add_path, add_pipeline, to_path
from .ray_cluster import Cluster, is_cancelled, reason_of
from .terminal import Progress, interrupts, note, say
from .training_run import add_training, check_style_path, training_config

EXAMPLES = """examples:
  %(prog)s pairs.csv --model ./stable-diffusion-v1-5 --out styles/
  %(prog)s pairs.csv ... --address 192.0.2.10:6379

pairs.csv has a line for each pair below a header such as
  style,face,name,prompt
  monet.png,anna.jpg,anna_monet,A painting of a woman with glasses in S* style
style and face are needed (style_image and face_image are the same); name, mask and every option
under "training" may be columns, and an empty cell takes the option of the command. Paths are
relative to the CSV file's folder.

Each pair is a task on Ray (pip install ".[cluster]"): on one GPU where there is any, else on CPU
cores. Started again, the command skips the styles that are done and goes on with those that are
not; a training whose worker dies is started again by itself. Every machine of a cluster must see
the same folders. results.csv in the folder of the styles tells how each pair ended. Exit codes:
0 all done, 1 some failed, 2 a mistake and nothing was started, 130 Ctrl-C."""

RESULTS = "results.csv"
COLUMNS = ("name", "style", "face", "outcome", "steps", "seconds", "file", "note")
_LOOK_EVERY = 0.5


def add_options(command: ArgumentParser) -> None:
    """Add the options of ``train-many``."""
    command.add_argument("pairs", type=to_path, help="the list of pairs, a CSV file")
    add_pipeline(command)
    add_path(command, "--out", "DIR", "folder for the styles", required=True)
    command.add_argument(
        "--address", metavar="HOST:PORT", help="a running Ray cluster; without it, this machine"
    )
    command.add_argument(
        "--cpus-per-task",
        type=int,
        default=1,
        metavar="CORES",
        help="of each training that has no GPU; more cores, fewer trainings at once (default: 1)",
    )
    add_training(command)


def run(options: Namespace) -> int:
    """Train every pair that is not done yet, and return the exit code.

    Raises:
        ACFunError: a mistake in the list, its pictures, the folders or the cluster.
    """
    pairs = read_pairs(options.pairs, options.out, asdict(training_config(options)))
    check_style_path(pairs[0].out)
    encoder = None if options.clip_vision is None else options.clip_vision.resolve()
    source = PipelineSource(options.model.resolve(), encoder, options.device)
    with (
        interrupts() as wants_stop,
        Cluster(options.address, options.device != "cpu", options.cpus_per_task) as cluster,
    ):
        where = f"{cluster.gpus} GPUs" if cluster.on_gpus else f"{cluster.cpus} CPU cores"
        say(f"{len(pairs)} pairs on {where}.")
        table = _Table(options.out / RESULTS, pairs)
        for pair in _find_done(cluster, wants_stop, source, pairs):
            steps = pair.config.steps
            table.results[pair.name] = PairResult(outcome="done before", steps=steps)
        table.write()
        for pair in pairs:
            if pair.name not in table.results:
                cluster.start(pair.name, train_pair, source, pair)
        with Progress("pairs", len(pairs), first=len(table.results)) as progress:
            for name, result in _results(cluster, wants_stop):
                table.results[name] = _pair_result(result)
                _write_or_say(table)
                progress.reach(len(table.results), failed=str(table.count("failed")))
    say(table.summary())
    if table.count("stopped"):
        return 130
    return 1 if table.count("failed") else 0


class _Table:
    """How each pair ended, as a file that is whole at any time."""

    def __init__(self, path: Path, pairs: Sequence[Pair]) -> None:
        self.path, self.pairs = path, pairs
        self.results: dict[str, PairResult] = {}

    def count(self, outcome: Outcome) -> int:
        return sum(result.outcome == outcome for result in self.results.values())

    def write(self) -> None:
        """Write a line for each pair that has ended, in the order of the list."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for pair in self.pairs:
            if (end := self.results.get(pair.name)) is not None:
                facts = [end.outcome, end.steps, f"{end.seconds:.1f}", pair.out, end.note]
                writer.writerow([pair.name, pair.style, pair.face, *facts])
        write_whole(text.getvalue().encode(), self.path, "table of results")

    def summary(self) -> str:
        """Return a sentence of how many pairs ended how, and the failures, one a line."""
        counts = [f"{self.count(o)} {o}" for o in get_args(Outcome) if self.count(o)]
        failed = [f"  {n}: {e.note}" for n, e in self.results.items() if e.outcome == "failed"]
        sentence = f"{', '.join(counts)}. The table of results is {self.path}."
        return "\n".join([sentence, *failed])


def _write_or_say(table: _Table) -> None:
    # Trainings go on while the table is open elsewhere; the next ending writes it whole.
    try:
        table.write()
    except ACFunError as error:
        note(f"note: {error}")


def _find_done(
    cluster: Cluster, wants_stop: Callable[[], bool], source: PipelineSource, pairs: Sequence[Pair]
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
        yield from cluster.collect(_LOOK_EVERY)


def _pair_result(result: object) -> PairResult:
    if isinstance(result, PairResult):
        return result
    if is_cancelled(result):
        return PairResult(outcome="stopped", note="Stopped before its first step.")
    return PairResult(outcome="failed", note=reason_of(result))
