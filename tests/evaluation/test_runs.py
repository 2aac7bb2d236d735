"""The runner: what is stored is kept, what is missing is run, whatever the number of processes."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from quality_pairs import Shift, ShiftForAll, open_tiny_bench

from evaluation import runs
from evaluation.benchmark import Row, Sampling
from evaluation.runner import measure_again, run_rows
from evaluation.runs import pair_noise, read_result


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "calls"
    path.touch()
    return path


@pytest.fixture
def row(log):
    return Row(name="shift", method=Shift(log=str(log)), steps=5, samples=2)


def calls(log):
    return log.read_text().splitlines()


def contents(results):
    return {
        (run.row, run.pair, file.name): file.read_bytes()
        for run in results
        for file in run.folder.glob("*.png")
    }


def test_finished_runs_are_not_run_again(row, log, tmp_path):
    first = run_rows(open_tiny_bench, [row], tmp_path)
    assert calls(log) == [
        "learn pair_0 5",
        "draw pair_0 0.0",
        "learn pair_1 5",
        "draw pair_1 0.0",
    ]
    assert run_rows(open_tiny_bench, [row], tmp_path) == first
    assert len(calls(log)) == 4
    assert {run.pair for run in first} == {0, 1}
    assert len(contents(first)) == 8


def test_interrupted_run_goes_on_where_it_stopped(row, log, tmp_path):
    first = run_rows(open_tiny_bench, [row], tmp_path)
    pictures = contents(first)
    # As if it had been stopped before the last file of the second pair was written.
    (first[1].folder / "run.json").unlink()
    (first[1].folder / "sample_1.png").unlink()
    again = run_rows(open_tiny_bench, [row], tmp_path)
    assert calls(log)[4:] == ["draw pair_1 0.0"]
    assert contents(again) == pictures


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 6},
        {"samples": 3},
        {"sampling": Sampling(guidance=2.0)},
        {"method": "amount"},
    ],
    ids=str,
)
def test_anything_that_defines_a_result_makes_a_new_one(row, log, tmp_path, change):
    run_rows(open_tiny_bench, [row], tmp_path)
    if change == {"method": "amount"}:
        change = {"method": Shift(log=str(log), amount=0.25)}
    drawn = sum(line.startswith("draw") for line in calls(log))
    run_rows(open_tiny_bench, [replace(row, **change)], tmp_path)
    assert sum(line.startswith("draw") for line in calls(log)) == drawn + 2


def test_the_rows_name_and_number_of_pairs_define_nothing(row, log, tmp_path):
    run_rows(open_tiny_bench, [row], tmp_path)
    results = run_rows(open_tiny_bench, [replace(row, name="other", pairs=1)], tmp_path)
    assert len(calls(log)) == 4
    assert [(run.row, run.pair) for run in results] == [("other", 0)]


def test_rows_that_differ_in_drawing_alone_learn_once(row, log, tmp_path):
    stronger = replace(row, name="stronger", method=Shift(log=str(log), amount=0.25))
    results = run_rows(open_tiny_bench, [row, stronger], tmp_path, workers=2)
    learnt = [line for line in calls(log) if line.startswith("learn")]
    assert sorted(learnt) == ["learn pair_0 5", "learn pair_1 5"]
    faces = {(run.row, run.pair): run.figures["face"] for run in results}
    assert faces["stronger", 0] == pytest.approx(faces["shift", 0] + 0.25, abs=0.01)
    assert all(run.seconds > 0 for run in results)


def test_processes_do_not_change_results(row, tmp_path):
    alone = run_rows(open_tiny_bench, [row], tmp_path / "one")
    together = run_rows(open_tiny_bench, [row], tmp_path / "two", workers=2)
    assert contents(alone) == contents(together)
    assert [run.figures for run in alone] == [run.figures for run in together]


def test_figures_are_computed_again_from_pictures_alone(row, log, tmp_path, monkeypatch):
    first = run_rows(open_tiny_bench, [row], tmp_path)
    path = first[0].folder / "run.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"figures": {"face": 7, "texture": 7}}))
    assert run_rows(open_tiny_bench, [row], tmp_path)[0].figures["face"] == 7
    measure_again(open_tiny_bench, [row], tmp_path)
    assert run_rows(open_tiny_bench, [row], tmp_path) == first
    assert len(calls(log)) == 4


def test_figures_are_those_of_the_stored_pictures(row, tmp_path):
    run = run_rows(open_tiny_bench, [row], tmp_path)[0]
    drawn = read_result(run.folder)
    assert drawn.samples.shape == (2, 64, 64, 3)
    assert run.figures["face"] == float(drawn.samples.mean())


def test_figure_that_is_not_finite_is_refused(row, tmp_path):
    bench = open_tiny_bench()
    broken = replace(bench, measure=lambda index, drawn: {"face": float("nan"), "texture": 1.0})
    with pytest.raises(ValueError, match="'face' is missing or not finite"):
        run_rows(lambda: broken, [row], tmp_path)


def test_noise_differs_between_pairs_and_never_between_rows():
    bench = open_tiny_bench()
    assert torch.equal(pair_noise(bench, 0, 2), pair_noise(bench, 0, 4)[:2])
    assert not torch.equal(pair_noise(bench, 0, 2), pair_noise(bench, 1, 2))


def test_another_model_or_another_picture_makes_a_new_run(row, tmp_path):
    bench = open_tiny_bench()
    folder = partial(runs.run_folder, row=row, index=0, work=tmp_path)
    other = replace(bench.pairs[0], face=bench.pairs[1].face)
    assert folder(bench) == folder(open_tiny_bench())
    assert folder(bench) != folder(replace(bench, pairs=[other, *bench.pairs[1:]]))
    changed = open_tiny_bench()
    changed.backbone.fingerprint = "another"
    assert folder(bench) != folder(changed)


def test_what_serves_every_pair_is_learnt_once_and_first_and_is_no_pairs_time(
    row, log, tmp_path, monkeypatch
):
    for_all = replace(row, name="for all", method=ShiftForAll(log=str(log)), steps=7)
    another = replace(for_all, name="another", method=ShiftForAll(log=str(log), amount=0.25))
    ticks = iter(range(1000))
    monkeypatch.setattr(runs.time, "perf_counter", lambda: float(next(ticks)))
    results = run_rows(open_tiny_bench, [row, for_all, another], tmp_path)
    assert calls(log) == [
        "learn 7",
        *("learn pair_0 5", "draw pair_0 0.0", "learn pair_1 5", "draw pair_1 0.0"),
        *("draw pair_0 0.0", "draw pair_1 0.0", "draw pair_0 0.25", "draw pair_1 0.25"),
    ]
    # One tick of the clock for drawing, and one more for learning.
    assert {run.row: run.seconds for run in results} == {"shift": 2, "for all": 1, "another": 1}
    for_longer = replace(for_all, name="for longer", steps=8)
    run_rows(open_tiny_bench, [for_longer], tmp_path)
    assert calls(log).count("learn 7") == calls(log).count("learn 8") == 1
