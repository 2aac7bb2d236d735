"""A small seeded slice of the benchmark of faults, and that it can say no."""

from contextlib import closing
from dataclasses import replace

import pytest

from evaluation.robustness import faults as trainings
from evaluation.robustness.report import record
from evaluation.robustness.trainings import CommandLineHost


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
    record("soak", [{"what": "minutes", "figure": 3}], path)
    record("trainings", [row | {"good": False}, row | {"good": True, "steps": 1}], path)
    table = path.with_suffix(".md").read_text()
    assert " 1 of 2 are good." in table
    assert "| lost | **no** |" in table
    assert "| minutes | 3 |" in table
