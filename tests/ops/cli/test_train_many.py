"""``python -m acfun_ops train-many`` on a local Ray cluster of two workers."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from headless_files import QUICK, CommandLine

from acfun_ops.style.style_file import load_style

pytest.importorskip("ray", reason="ray is not installed; the extra is 'cluster'")
ROOT = Path(__file__).resolve().parents[3]
DEADLINE = 240


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two CPU cores, as someone else would have started it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    arguments = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    running = Cluster(initialize_head=True, head_node_args=arguments)
    yield running
    running.shutdown()


class Studio:
    """A list of pairs, and the command run on it as a process of its own."""

    def __init__(self, line: CommandLine, *options: object) -> None:
        self.line, self.out = line, line.folder / "styles"
        self.list = line.folder / "pairs.csv"
        self.options = [*QUICK, *options]

    def write(self, *rows: str, header: str = "style,face,name") -> None:
        self.list.write_text("\n".join([header, *rows]), encoding="utf-8")

    def start(self, *options: object) -> subprocess.Popen:
        files = ["train-many", self.list, "--model", self.line.model, "--out", self.out]
        command = [sys.executable, "-m", "acfun_ops", *files, *self.options, *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, **pipes)

    def run(self, *options: object) -> tuple[int, str, str]:
        process = self.start(*options)
        said, errors = process.communicate(timeout=DEADLINE)
        return process.returncode, said, errors

    def results(self) -> dict[str, dict[str, str]]:
        with (self.out / "results.csv").open(encoding="utf-8", newline="") as file:
            return {row["name"]: row for row in csv.DictReader(file)}

    def outcomes(self) -> dict[str, str]:
        return {name: row["outcome"] for name, row in self.results().items()}


@pytest.fixture
def studio(line):
    return Studio(line)


def until(condition):
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def workers_of(cluster):
    """Return the processes of a cluster that train, found by the title that Ray gives them."""
    raylet = cluster.head_node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    titles = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid, title in titles.items() if title.startswith(b"ray::train_pair")]


def test_all_pairs_are_trained_and_then_skipped_and_a_failure_has_its_reason(studio, cluster):
    studio.write(
        "style.png,face.png,,3", "face.png,style.png,second,4", header="style,face,name,steps"
    )
    (studio.out / "second.safetensors").mkdir(parents=True)
    address = ("--address", cluster.address)
    code, said, errors = studio.run(*address)
    assert code == 1, errors
    assert studio.outcomes() == {"style_face": "finished", "second": "failed"}
    reason = studio.results()["second"]["note"]
    assert "second.safetensors" in reason and f"second: {reason}" in said
    assert "pairs: 100%" in errors and "failed=1" in errors and "Traceback" not in errors
    alone = studio.line.train()
    assert alone[0] == 0
    made = studio.out / "style_face.safetensors"
    assert made.read_bytes() == studio.line.out.read_bytes()
    (studio.out / "second.safetensors").rmdir()
    before = made.stat().st_mtime_ns
    assert studio.run(*address)[0] == 0
    assert studio.outcomes() == {"style_face": "done before", "second": "finished"}
    assert made.stat().st_mtime_ns == before
    assert load_style(studio.out / "second.safetensors").facts.steps == 4


def test_a_pair_that_was_stopped_beside_another_style_goes_on(studio, cluster):
    """The list was changed: what stands under the pair's name is of other settings."""
    line, made, part = studio.line, studio.out / "a.safetensors", studio.out / "a_2.safetensors"
    line.train("--seed=8", out=made)
    line.train("--steps=2", out=part)
    other, run = load_style(made).facts.run, load_style(part).facts.run
    studio.write("style.png,face.png,a")
    assert studio.run("--address", cluster.address)[0] == 0
    assert (load_style(made).facts.run, load_style(made).facts.steps) == (run, 3)
    assert run != other and not part.exists()
    assert studio.results()["a"]["note"].startswith("Trained anew")


def test_a_table_that_is_open_elsewhere_ends_nothing(tmp_path, capsys):
    from acfun_ops.cli.train_many import _Table, _write_or_say

    table = _Table(tmp_path / "results.csv", [])
    table.path.mkdir()
    _write_or_say(table)
    assert "note: The table of results could not be written" in capsys.readouterr().err


def test_no_core_for_a_training_is_refused(studio):
    studio.write("style.png,face.png,a")
    code, _, errors = studio.run("--cpus-per-task=0")
    assert (code, "--cpus-per-task is 0; expected 1 or more" in errors) == (2, True)


def test_a_killed_worker_costs_nothing(studio, cluster):
    studio.options.append("--steps=150")
    studio.write("style.png,face.png,a", "face.png,style.png,b")
    process = studio.start("--address", cluster.address)
    until((studio.out / "a.resume").exists)
    killed = workers_of(cluster)
    os.kill(killed[0], signal.SIGKILL)
    said, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, said + errors
    assert len(killed) == 2
    assert studio.outcomes() == {"a": "finished", "b": "finished"}
    assert studio.line.train("--steps=150")[0] == 0
    assert (studio.out / "a.safetensors").read_bytes() == studio.line.out.read_bytes()


def test_a_killed_driver_costs_a_step_at_most_and_what_is_done_is_not_done_again(studio):
    studio.options.append("--steps=150")
    studio.write("style.png,face.png,a", "face.png,style.png,b")
    process = studio.start("--cpus-per-task=2")  # One at a time, on a Ray of its own.
    until((studio.out / "a.resume").exists)
    process.kill()
    process.communicate(timeout=DEADLINE)
    until(lambda: not _trainings())  # They end with their driver.
    assert load_style(studio.out / "a.safetensors").facts.steps > 0
    code, said, errors = studio.run("--cpus-per-task=2")
    assert code == 0, said + errors
    assert studio.outcomes() == {"a": "finished", "b": "finished"}
    assert studio.line.train("--steps=150")[0] == 0
    assert (studio.out / "a.safetensors").read_bytes() == studio.line.out.read_bytes()
    assert "2 CPU cores" in said
    code, said, errors = studio.run("--cpus-per-task=2")
    assert code == 0, said + errors
    assert studio.outcomes() == {"a": "done before", "b": "done before"}


def _trainings():
    """Return the processes that still train, by the title that Ray gives them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::train_pair"):
            found.append(process.name)
    return found
