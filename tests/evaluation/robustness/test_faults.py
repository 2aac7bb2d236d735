"""A small seeded slice of the benchmark of faults, and that it can say no."""

from contextlib import closing
from dataclasses import replace

import pytest

from evaluation.robustness import damaged_files as files
from evaluation.robustness import faults as trainings
from evaluation.robustness.cli_trainings import CommandLineHost
from evaluation.robustness.report import record


def test_damaged_files_are_refused_in_a_sentence_or_load_as_written():
    result = files.check_files(400, seed=1)
    assert result.failures == []
    assert min(result.refused.values()) > 100
    assert sum(result.loaded.values()) > 0


def test_a_reader_that_crashes_is_found(monkeypatch):
    def careless(path):
        return path.read_bytes().decode("ascii")

    kinds = files._kinds

    def spoilt(folder):
        return tuple(replace(kind, load=careless) for kind in kinds(folder))

    monkeypatch.setattr(files, "_kinds", spoilt)
    assert "UnicodeDecodeError" in files.check_files(10).failures[0]


@pytest.fixture(scope="module")
def line():
    with closing(CommandLineHost()) as host:
        yield host


@pytest.mark.parametrize(
    "text",
    [
        "disk full once, at write of step 2",
        "disk full for good, from replace of step 3",
        "an unknown error in a preview",
    ],
)
def test_the_last_good_style_is_there_after_a_fault(line, text):
    fault = next(fault for fault in trainings.faults() if fault.text == text)
    row = trainings.run_fault(line, fault)
    assert row["good"], row
    assert not trainings.run_fault(line, replace(fault, least=trainings.STEPS + 1))["good"]


def test_there_are_sixty_faults_with_at_least_six_kills():
    assert 2 * len(list(trainings.faults())) + 2 <= 54


def test_the_table_says_what_failed(tmp_path):
    path = tmp_path / "faults.json"
    row = {"where": "here", "fault": "a fault", "steps": None, "least": 1, "said": "lost"}
    record("trainings", {"rows": [row | {"good": False}, row | {"good": True, "steps": 1}]}, path)
    table = path.with_suffix(".md").read_text()
    assert "loads in 1 of 2" in table
    assert "**no**: lost" in table
