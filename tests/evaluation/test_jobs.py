"""Many runs: they end in time, a failure stops nothing else, what is not whole is named."""

import argparse
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest
from quality_pairs import Broken, Dying, Shift, ShiftForAll, open_tiny_bench

from evaluation.__main__ import evaluate
from evaluation.benchmark import Row, Section
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
    pretrainings, jobs = jobs_of(open_tiny_bench(), rows, tmp_path)
    assert [row.name for row, _ in pretrainings] == ["for all"]
    assert list(map(len, jobs)) == [1] * 6
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
