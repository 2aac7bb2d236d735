"""What is counted on a GPU, here one whose driver is asked in vain, and the table of its rows."""

import json
import time
from types import SimpleNamespace

import pytest
import torch

from evaluation.performance.gpu import __main__ as table
from evaluation.performance.gpu.device import GIB, Gpu


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 80 GiB, of which torch holds 5 and others 3."""
    figures = {
        "is_available": lambda: True,
        "mem_get_info": lambda device=None: (72 * GIB, 80 * GIB),
        "memory_reserved": lambda: 5 * GIB,
        "empty_cache": lambda: None,
        "set_per_process_memory_fraction": lambda share: None,
    }
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, figure)
    return Gpu()


def test_a_smaller_gpu_is_told_to_comfyui_and_what_others_hold_stays_the_drivers(gpu):
    assert gpu.other_bytes() == 3 * GIB
    with gpu.simulate(6 * GIB):
        assert torch.cuda.mem_get_info() == (1 * GIB, 6 * GIB)
        assert gpu.other_bytes() == 3 * GIB


class Cancelled(BaseException):
    """As ComfyUI's is no Exception."""


def cancel(models):
    raise Cancelled("pressed")


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Measure a group of rows; return good and figures or error of each row in the table."""
    mm = SimpleNamespace(
        InterruptProcessingException=Cancelled, interrupt_current_processing=lambda is_on: None
    )
    monkeypatch.setattr(table, "load", lambda name: mm)
    monkeypatch.setattr(table, "machine", lambda gpu: {"card": "none"})
    out = tmp_path / "gpu.json"

    def measure_rows(rows, seconds=60.0, make=lambda is_small: SimpleNamespace(gpu=Gpu())):
        monkeypatch.setitem(table.GROUPS, "sd1", (make, rows))
        table.measure_group("sd1", True, out, time.time() + seconds)
        assert "# On a GPU" in out.with_suffix(".md").read_text()
        found = json.loads(out.read_text())["rows"]
        return {row["row"]: (row["good"], row.get("result", row.get("error"))) for row in found}

    return measure_rows


def test_a_row_that_fails_or_is_cancelled_costs_no_other(measure):
    figures = {name: {"ok": name == "two"} for name in ("two", "three")}
    rows = {"one": cancel} | {n: lambda models, n=n: figures[n] for n in figures}
    assert measure(rows) == {
        "one": (False, "Cancelled: pressed"),
        "two": (True, {"ok": True}),
        "three": (False, {"ok": False}),
    }


def test_what_there_is_no_time_for_keeps_its_row(measure):
    before = measure({"one": lambda models: {"figure": 1}})
    assert measure({"one": lambda models: {"figure": 2}}, seconds=-1) == before
    assert measure({"one": lambda models: {"figure": 2}}) != before


def test_models_that_cannot_be_made_are_said_in_each_row(measure):
    def fail(is_small):
        raise RuntimeError("no memory")

    found = measure({"one": cancel, "two": cancel}, make=fail)
    assert found == dict.fromkeys(("one", "two"), (False, "RuntimeError: no memory"))
