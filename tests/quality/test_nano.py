"""The evaluation on the small prior: its figures know the true answer, its rows can be run."""

import argparse

import pytest
import torch

from benchmarks.nano.held_out import held_out_pair
from benchmarks.nano.reader import load_reader
from benchmarks.quality import nano
from benchmarks.quality.bench import rows_of
from benchmarks.quality.command import check_figures
from benchmarks.quality.known_answers import KnownAnswer
from benchmarks.quality.pairs import Drawn, Sampling

NUMBERS = range(4)


@pytest.fixture(scope="module")
def reader():
    return load_reader()


def figures_of(reader, number, name):
    one = held_out_pair(number)
    pictures = torch.from_numpy(getattr(one, name))[None].expand(2, -1, -1, -1)
    return nano.measure(reader, one, Drawn(samples=pictures, other=pictures, seconds=0.0))


@pytest.mark.parametrize("number", NUMBERS)
def test_true_answer_is_right_in_everything(reader, number):
    figures = figures_of(reader, number, "truth")
    assert figures["rank1"] == 1
    assert figures["leak"] == figures["truth"] == figures["variety"] == 0
    assert figures["landmarks"] == pytest.approx(0, abs=1e-3)
    assert figures["structure"] == pytest.approx(1)
    assert figures["face"] >= 5 / 7


@pytest.mark.parametrize("number", NUMBERS)
def test_sitter_is_told_from_the_face(reader, number):
    figures = figures_of(reader, number, "sitter_truth")
    assert figures["leak"] == 1
    assert figures["rank1"] == 0
    assert figures["truth"] > 0.02


@pytest.mark.parametrize("number", NUMBERS)
def test_style_picture_has_its_own_style_and_the_photo_has_not(reader, number):
    style, face = (figures_of(reader, number, name) for name in ("style", "face"))
    assert style["colour"] == style["texture"] == 0
    assert style["layout"] == pytest.approx(1)
    assert face["colour"] > 5
    assert face["texture"] > 0.1


def test_seam_shows_in_a_spliced_photo(reader):
    spliced, whole = (
        sum(figures_of(reader, number, name)["seam"] for number in NUMBERS)
        for name in ("spliced", "face")
    )
    assert spliced > whole


def test_bench_opens_and_all_its_rows_fit():
    bench = nano.open_bench(2)
    assert [pair.name for pair in bench.pairs] == ["00 gold tiles", "01 blue swirls"]
    assert bench.backbone.native_side == 64
    sections = nano.sections(argparse.Namespace(pairs=2))
    check_figures(sections, [figure.name for figure in bench.figures])
    assert len(rows_of(sections)) > 30


def test_known_answer_is_the_pairs_own(backbone, tmp_path):
    pair = nano.open_bench(1).pairs[0]
    noise = torch.zeros(3, 4, 8, 8)
    samples, other = KnownAnswer(which="truth").draw(backbone, pair, tmp_path, noise, Sampling())
    assert torch.equal(samples, other)
    assert torch.equal(samples[2], torch.from_numpy(held_out_pair(0).truth))
