"""Many runs: they end in time, a failure stops nothing else, what is not whole is named."""

import argparse
import json
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest
from quality_pairs import Broken, Dying, Shift, ShiftForAll, Stuck, open_tiny_bench

from evaluation import runner as jobs
from evaluation.__main__ import evaluate, sections_that_are_there
from evaluation.benchmark import Expectation, Row, Section
from evaluation.report.render import write_report
from evaluation.runner import jobs_of, run_rows


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "calls"
    path.touch()
    return path


def row(log, kind=Shift, name="shift", **changes):
    return Row(name=name, method=kind(log=str(log), **changes), steps=5, samples=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_begun_after_the_time(workers, log, tmp_path):
    assert run_rows(open_tiny_bench, [row(log)], tmp_path, workers, seconds=0) == []
    assert log.read_text() == ""


def test_what_still_runs_after_the_time_is_ended_and_is_no_run(log, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "GRACE", 0.5)
    for seconds in (40, 160):  # Two processes open their benches first, on a busy machine slowly.
        start = time.monotonic()
        runs = run_rows(open_tiny_bench, [row(log, Stuck)], tmp_path, workers=2, seconds=seconds)
        assert time.monotonic() - start < seconds + 80
        if log.read_text():
            break
    assert "stuck" in log.read_text()
    assert runs == []
    assert not list(tmp_path.rglob("run.json"))


def test_a_failure_is_raised_once_the_others_are_done(log, tmp_path):
    rows = [row(log, Broken), row(log, name="fine", amount=0.5)]
    with pytest.raises(ValueError, match="broken"):
        run_rows(open_tiny_bench, rows, tmp_path, workers=2)
    drawn = [line for line in log.read_text().splitlines() if line.startswith("draw")]
    assert sorted(drawn) == ["draw pair_0 0.5", "draw pair_1 0.0", "draw pair_1 0.5"]


def test_a_process_that_dies_is_told_and_not_waited_for(log, tmp_path):
    with pytest.raises(BrokenProcessPool):
        run_rows(open_tiny_bench, [row(log, Dying)], tmp_path, workers=2)


def test_what_waits_for_a_teaching_is_done_by_any_process_after_it(log, tmp_path):
    rows = [row(log), row(log, ShiftForAll, "for all"), row(log, ShiftForAll, "more", amount=0.5)]
    found = jobs_of(open_tiny_bench(), rows, tmp_path)
    assert [job.pretrains is not None for job in found] == [True] + [False] * 6
    assert all(len(job.runs) == 1 for job in found[1:])
    assert len(run_rows(open_tiny_bench, rows, tmp_path, workers=2)) == 6
    lines = log.read_text().splitlines()
    assert lines.count("learn 5") == 1
    assert lines.index("learn 5") < lines.index("draw pair_0 0.5")


def test_sections_that_are_not_whole_are_named_and_not_reported(log, tmp_path, caplog):
    def sections():
        return [
            Section(title=title, rows=[row(log, name=title, amount=amount)], reference=title)
            for title, amount in (("first", 0.0), ("second", 0.5))
        ]

    def run(*titles, minutes):
        evaluate(
            open_tiny_bench,
            sections(),
            argparse.Namespace(
                only=titles,
                measure_again=False,
                work=tmp_path,
                workers=1,
                minutes=minutes,
                results=tmp_path / "report",
            ),
        )

    run(minutes=0)
    assert not (tmp_path / "report").exists()
    assert "0 of 4 runs are there" in caplog.text
    run("first", minutes=5)
    caplog.clear()
    run(minutes=0)
    assert "2 of 4 runs are there; the same command goes on. Not reported: second." in caplog.text
    table = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    assert "## first" in table and "## second" not in table


def test_rows_that_are_not_whole_are_named_under_the_others(log, tmp_path):
    bench = open_tiny_bench()
    rows = [row(log, name=name, amount=amount) for name, amount in (("a", 0.0), ("b", 0.3))]
    rows.append(row(log, name="c", amount=0.6))
    runs = run_rows(open_tiny_bench, rows[:2], tmp_path)
    expected = [Expectation(f"{name} is better", name, "texture", "lower", "a") for name in "bc"]
    section = Section(title="all", rows=rows, reference="a", expectations=expected)
    (there,) = sections_that_are_there(bench, [section], runs)
    assert [one.name for one in there.rows] == ["a", "b"]
    assert (list(there.expectations), there.absent) == (expected[:1], ["c"])
    write_report(bench, [there], runs, tmp_path / "report")
    table = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    assert "Not run yet: c." in table
    alone = replace(section, rows=[rows[0], rows[2]], expectations=[])
    assert not sections_that_are_there(bench, [alone, replace(section, reference="c")], runs)


def published(log, folder, *rows):
    """Return the options of a run elsewhere into a report's folder, after it has been made."""
    section = Section(title="all", rows=rows, reference=rows[0].name)
    options = argparse.Namespace(
        only=[], measure_again=False, work=folder / "work", workers=1, minutes=5
    )
    options.results = folder / "report"
    evaluate(open_tiny_bench, [section], options)
    log.write_text("")
    options.work = folder / "elsewhere"
    return options


def test_what_a_report_has_published_is_not_run_again_elsewhere(log, tmp_path, caplog):
    rows = [row(log), row(log, name="more", amount=0.5)]
    options = published(log, tmp_path, *rows)
    report = options.results
    before = {path.name: path.read_bytes() for path in report.iterdir()}
    evaluate(open_tiny_bench, [Section(title="all", rows=rows, reference="shift")], options)
    assert log.read_text() == ""
    assert {path.name: path.read_bytes() for path in report.iterdir()} == before
    assert "all: its image stays" in caplog.text
    # Of what is defined otherwise than what was published, nothing is taken.
    rows.append(row(log, name="new", amount=0.7))
    rows[1] = replace(rows[1], steps=6)
    evaluate(open_tiny_bench, [Section(title="all", rows=rows, reference="shift")], options)
    drawn = [line for line in log.read_text().splitlines() if line.startswith("draw")]
    assert drawn == [f"draw pair_{index} {amount}" for amount in (0.5, 0.7) for index in (0, 1)]
    assert "| new " in (report / "table.md").read_text(encoding="utf-8")


def test_a_report_that_names_no_runs_gives_none(log, tmp_path):
    options = published(log, tmp_path, row(log))
    path = options.results / "figures.json"
    figures = json.loads(path.read_text(encoding="utf-8"))
    for facts in figures["rows"]["shift"]["pairs"].values():
        del facts["run"]
    path.write_text(json.dumps(figures), encoding="utf-8")
    evaluate(open_tiny_bench, [Section(title="all", rows=[row(log)], reference="shift")], options)
    assert sum(line.startswith("draw") for line in log.read_text().splitlines()) == 2


def test_measuring_again_runs_what_has_no_pictures_again(log, tmp_path):
    rows = [row(log), row(log, name="more", amount=0.5)]
    options = published(log, tmp_path, *rows)
    section = Section(title="all", rows=rows, reference="shift")
    evaluate(open_tiny_bench, [section], options)
    (options.results / "all.jpg").unlink()
    options.measure_again = True
    evaluate(open_tiny_bench, [section], options)
    assert sum(line.startswith("draw") for line in log.read_text().splitlines()) == 4
    assert (options.results / "all.jpg").exists()
