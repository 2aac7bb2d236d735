"""The gate names every row it asks for, and one that is missed fails it."""

import json

import numpy as np
import pytest
import torch

from evaluation.toy.gate import __main__ as gate
from evaluation.toy.gate import measures
from evaluation.toy.gate.measures import identity_rate, nearness, texture_shares
from evaluation.toy.reader import load_reader
from evaluation.toy.styles import WORDS

PASSING = {
    "followed": {"hat": 0.95, "smile": 1.0},
    "texture": {"given back": 0.15, "AdaIN covers": 0.35},
    "found through the autoencoder": 0.95,
    "strokes": {family: {"ratio": 1.3} for family in WORDS.values()},
    "nearest": {"copies": 0},
}
MISSES = (
    ("followed", {"hat": 0.94, "smile": 1.0}),
    ("texture", {"given back": 0.16, "AdaIN covers": 0.0}),
    ("texture", {"given back": 0.0, "AdaIN covers": 0.36}),
    ("found through the autoencoder", 0.94),
    ("strokes", {**PASSING["strokes"], "a mosaic": {"ratio": 1.31}}),
    ("nearest", {"copies": 1}),
)


class Untouched:
    """A stand-in for a backbone whose autoencoder gives back what it gets."""

    def encode_pictures(self, pictures):
        return pictures.permute(0, 3, 1, 2)

    def decode_latents(self, latents):
        return latents.permute(0, 2, 3, 1).clamp(0, 1)


class Forgetful(Untouched):
    """Its autoencoder keeps a picture's mean colour only."""

    def encode_pictures(self, pictures):
        latents = super().encode_pictures(pictures)
        return latents.mean(dim=(2, 3), keepdim=True).expand_as(latents)


def test_every_row_of_the_gate_is_judged():
    rows = gate.judge(PASSING)
    assert len(rows) == 12
    assert all(row["passed"] for row in rows.values())


@pytest.mark.parametrize(("figure", "value"), MISSES)
def test_one_figure_that_is_missed_fails_one_row(figure, value):
    rows = gate.judge({**PASSING, figure: value})
    assert [row["passed"] for row in rows.values()].count(False) == 1


def test_the_command_fails_if_a_row_is_missed(monkeypatch, tmp_path):
    samples = {"a photo": torch.zeros(12, 8, 8, 3)}
    monkeypatch.setattr("sys.argv", ["gate", "--out", str(tmp_path)])
    for figures, code in ((PASSING, 0), ({**PASSING, "nearest": {"copies": 1}}, 1)):
        monkeypatch.setattr(gate, "measure", lambda *_, found=figures: (found, samples))
        assert gate.main() == code
        written = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))
        assert written["passed"] == (code == 0)
    assert (tmp_path / "gate.jpg").exists()


def test_an_autoencoder_that_changes_nothing_gives_nothing_back():
    shares = texture_shares(Untouched())
    assert shares["given back"] == pytest.approx(0, abs=1e-6)
    assert shares["truth"] < shares["photo"]
    assert texture_shares(Forgetful())["given back"] > 1


def test_identity_is_found_through_what_keeps_it(monkeypatch):
    monkeypatch.setattr(measures, "PHOTOS", 12)
    reader = load_reader()
    assert identity_rate(Untouched(), reader) == 1
    assert identity_rate(Forgetful(), reader) < 0.3


def test_a_training_drawing_counts_as_a_copy(monkeypatch):
    from evaluation.toy.drawings import draw_set

    drawn = draw_set(20, seed=9, workers=1)
    monkeypatch.setattr(measures, "training_drawings", lambda _: drawn)
    copied = torch.from_numpy(drawn.images[:3].astype(np.float32) / 255)
    assert nearness(copied, None)["copies"] == 3
    fresh = draw_set(3, seed=11, workers=1).images.astype(np.float32) / 255
    assert nearness(torch.from_numpy(fresh), None)["copies"] == 0


def test_written_figures_say_what_was_passed():
    figures = json.loads((gate.PRIOR.parent / "gate.json").read_text(encoding="utf-8"))
    assert figures["rows"] == gate.judge(figures)
    assert figures["passed"] == all(row["passed"] for row in figures["rows"].values())
