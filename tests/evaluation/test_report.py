"""The report: what it says follows from the figures, never from what was hoped for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from quality_pairs import Shift, open_tiny_bench

from evaluation.benchmark import Expectation, Row, Section, rows_of
from evaluation.report.render import write_report
from evaluation.runner import run_rows
from evaluation.sheets import MOST_BYTES, write_sheet

PAIRS = 4


def sections(log, amount):
    rows = [
        Row(name="ours", method=Shift(log=str(log)), steps=1, samples=2),
        Row(name="peer", method=Shift(log=str(log), amount=amount), steps=1, samples=2),
    ]
    expectation = Expectation("the peer has more face", "peer", "face", "higher", "ours")
    return [
        Section(
            title="All peers",
            rows=rows,
            reference="ours",
            expectations=[expectation],
            is_ranked=True,
        )
    ]


def report(tmp_path, amount):
    parts = sections(tmp_path / "log", amount)
    bench = replace(open_tiny_bench(PAIRS), truths=[torch.zeros(64, 64, 3)] * PAIRS)
    results = run_rows(lambda: bench, rows_of(parts), tmp_path / "work")
    folder = tmp_path / f"report {amount}"
    write_report(bench, parts, results, folder)
    return folder


@pytest.mark.parametrize(
    ("amount", "said"),
    [(0.2, "found"), (-0.2, "not found"), (0.0, "not found")],
)
def test_verdict_follows_the_figures(tmp_path, amount, said):
    folder = report(tmp_path, amount)
    table = (folder / "table.md").read_text(encoding="utf-8")
    line = next(line for line in table.splitlines() if "the peer has more face" in line)
    assert line.endswith(f"| {said} |")
    section = json.loads((folder / "figures.json").read_text())["sections"][0]
    assert section["expectations"][0]["verdict"] == said
    difference = section["differences"]["peer"]["face"]
    assert difference["mean"] == pytest.approx(amount, abs=0.01)


def test_table_marks_what_differs_and_ranks_by_both_sides(tmp_path):
    table = (report(tmp_path, 0.2) / "table.md").read_text(encoding="utf-8")
    rows = {line.split(" | ")[0]: line for line in table.splitlines() if line.startswith("| ")}
    cells = rows["| peer"].split(" | ")
    assert cells[4].endswith("]*")
    assert "*" not in rows["| ours (reference)"]
    # The peer is better in face, worse in texture: both are at rank 1.5.
    assert cells[3] == rows["| ours (reference)"].split(" | ")[3] == "1.5 [1.5, 1.5]"
    assert rows["| row"].split(" | ")[3:6] == ["rank ↓", "face ↑", "texture ↓"]


def test_figures_hold_every_pair_and_what_defines_a_row(tmp_path):
    figures = json.loads((report(tmp_path, 0.2) / "figures.json").read_text())
    peer = figures["rows"]["peer"]
    assert peer["definition"]["amount"] == 0.2
    assert list(peer["pairs"]) == [f"pair_{number}" for number in range(PAIRS)]
    mean = sum(pair["face"] for pair in peer["pairs"].values()) / PAIRS
    assert peer["means"]["face"]["mean"] == pytest.approx(mean)


def test_sheet_shows_what_was_given_and_what_was_drawn(tmp_path):
    with Image.open(report(tmp_path, 0.2) / "all-peers.jpg") as sheet:
        colours = sheet.convert("RGB").getcolors(sheet.width * sheet.height)
        # Three pairs of two rows each; style, face, truth and two samples.
        assert sheet.height > 3 * 2 * 96
        assert sheet.width > 5 * 96
    assert colours is not None
    assert len(colours) > 100


def test_rows_compared_on_the_pairs_they_share(tmp_path):
    parts = sections(tmp_path / "log", 0.2)
    fewer = [parts[0].rows[0], replace(parts[0].rows[1], pairs=2)]
    parts = [replace(parts[0], rows=fewer)]
    bench = open_tiny_bench(PAIRS)
    results = run_rows(lambda: bench, rows_of(parts), tmp_path / "work")
    write_report(bench, parts, results, tmp_path / "report")
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())
    difference = figures["sections"][0]["differences"]["peer"]["face"]
    assert difference["mean"] == pytest.approx(0.2, abs=0.01)
    assert len(figures["rows"]["ours"]["pairs"]) == PAIRS
    assert len(figures["rows"]["peer"]["pairs"]) == 2


def test_a_row_with_more_pairs_is_compared_on_those_of_its_section(tmp_path):
    parts = sections(tmp_path / "log", 0.2)
    ours, more = parts[0].rows
    expectation = Expectation("more has more", "more", "face", "higher", "ours")
    rows = [ours, replace(more, name="more"), replace(more, name="fewer", pairs=2)]
    parts = [replace(parts[0], rows=rows, expectations=[expectation])]
    bench = open_tiny_bench(PAIRS)
    runs = [
        replace(run, figures=run.figures | {"face": run.pair ** (1 + (run.row == "more"))})
        for run in run_rows(lambda: bench, rows_of(parts), tmp_path / "work")
    ]
    write_report(bench, parts, runs, tmp_path / "report")
    table = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    lines = [
        line.split(" | ") for line in table.splitlines() if line.startswith(("| ours", "| mo"))
    ]
    assert [(cells[2], cells[4]) for cells in lines[:2]] == [("2", "0.5 [0, 1]")] * 2
    assert "face: more less ours 0 [0, 0] |" in table
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())
    # More has 0, 1, 4, 9 and ours 0, 1, 2, 3.
    assert figures["sections"][0]["differences"]["more"]["face"]["mean"] == 0
    assert figures["rows"]["more"]["means"]["face"]["mean"] == 3.5


def test_same_name_for_different_rows_is_refused(tmp_path):
    part = sections(tmp_path, 0.2)[0]
    renamed = replace(part, rows=[replace(row, name="ours") for row in part.rows])
    with pytest.raises(ValueError, match="two different rows are called 'ours'"):
        rows_of([renamed])
    assert len(rows_of([part, replace(part, title="again")])) == 2


def test_missing_row_is_refused_before_anything_runs(tmp_path):
    part = sections(tmp_path, 0.2)[0]
    with pytest.raises(ValueError, match="lacks its row 'peer'"):
        rows_of([replace(part, rows=part.rows[:1])])


def test_votes_of_the_paper_stand_beside_the_shares_of_pairs(tmp_path):
    votes = {"ours": {"": 54, "face": 63}, "peer": {"style": 34}}
    parts = [replace(sections(tmp_path / "log", 0.2)[0], votes=votes)]
    bench = open_tiny_bench(PAIRS)
    results = run_rows(lambda: bench, rows_of(parts), tmp_path / "work")
    write_report(bench, parts, results, tmp_path / "report")
    table = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    ours, peer = [
        line.strip("| ").split(" | ")[1:]
        for line in table.split("votes in the paper")[-1].splitlines()
        if line.startswith(("| ours", "| peer"))
    ]
    # The peer has more face and less texture on every pair: overall they are even.
    assert ours == ["50 [50, 50]", "54", "0 [0, 0]", "63", "100 [100, 100]", "-"]
    assert peer == ["50 [50, 50]", "-", "100 [100, 100]", "-", "0 [0, 0]", "34"]
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())
    assert figures["sections"][0]["best"]["of the face"]["peer"]["mean"] == 1


def test_report_says_what_ran_on_which_machine_and_times_one_of_them(tmp_path):
    parts = sections(tmp_path / "log", 0.2)
    bench = open_tiny_bench(PAIRS)
    results = run_rows(lambda: bench, rows_of(parts), tmp_path / "work")
    elsewhere = [
        replace(run, machine="another", seconds=1000.0) if run.pair == 0 else run for run in results
    ]
    write_report(bench, parts, elsewhere, tmp_path / "report")
    table = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    here = results[0].machine
    assert f"- {2 * PAIRS - 2} runs on {here}; the seconds are of these alone" in table
    assert "- 2 runs on another\n" in table
    assert "1000" not in table
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())
    assert figures["machines"] == {here: 2 * PAIRS - 2, "another": 2}
    assert figures["rows"]["peer"]["pairs"]["pair_0"]["machine"] == "another"
    assert figures["rows"]["peer"]["seconds"]["another"] == 1000


def test_sheet_of_noise_is_made_small_enough(tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (1500, 1200, 3), dtype=np.uint8))
    write_sheet(noise, tmp_path / "sheet.jpg")
    assert (tmp_path / "sheet.jpg").stat().st_size <= MOST_BYTES
    assert Image.open(tmp_path / "sheet.jpg").width > 400


def test_published_sheets_are_small():
    results = Path(__file__).resolve().parents[2] / "evaluation" / "results"
    sheets = list(results.rglob("*.jpg"))
    assert sheets
    assert [path.name for path in sheets if path.stat().st_size > MOST_BYTES] == []
