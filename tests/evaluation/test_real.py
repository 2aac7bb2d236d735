"""Real pictures on any diffusers folder, by the command itself."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_pipeline import write_pipeline

from acfun_ops.method.alignment_loss import SETTINGS
from acfun_ops.training.config import TrainConfig
from evaluation import __main__ as command
from evaluation import real_benchmark as real
from evaluation import real_try
from evaluation.benchmark import LearnsOnce, Sampling
from evaluation.sections.rows import PEERS


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
    sections, two = real.sections, Sampling(steps=2)

    def shortened(options):
        section = sections(options)[0]
        rows = [replace(row, steps=2, sampling=two, samples=2) for row in section.rows]
        rows = [
            replace(row, method=replace(row.method, steps=2)) if row.name == "StyleID" else row
            for row in rows
        ]
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
        "DreamStyler",
        "StyleID",
        "Attention Distillation",
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
    options = command.parser().parse_args(sys.argv[1:])
    rows = {row.name: row for row in real.sections(options)[0].rows}
    paper, ours = rows[real.PAPER], rows["ACFun"]
    assert (paper.steps, paper.sampling.steps, paper.method.config.learning_rate) == (500, 40, 1e-4)
    assert (ours.steps, ours.sampling.steps) == (2, 2)


def parsed(*line):
    return command.parser().parse_args(line)


def test_one_switch_gives_all_rows_the_papers_budget(arguments):
    options = parsed(*arguments[1:], "--preset", "paper")
    options.steps = options.sampling_steps = None
    rows = {row.name: row for row in real.sections(options)[0].rows}
    assert {row.steps for row in rows.values()} == {500}
    assert {row.sampling.steps for row in rows.values()} == {40}
    ours, paper = (rows[name].method.config for name in ("ACFun", real.PAPER))
    assert (ours.learning_rate, paper.learning_rate) == (1e-4, 1e-4)
    assert (ours.alignment, paper.alignment) == ("drawn", "imagery")


def test_rows_are_those_of_the_drawn_portraits(arguments, tmp_path):
    """Also the two transformers of SDXL's decoder, which SD1's first block has not."""
    attention = ("CrossAttnUpBlock2D", "UpBlock2D")
    down = ("DownBlock2D", "CrossAttnDownBlock2D")
    sdxl = write_pipeline(tmp_path / "sdxl", up_block_types=attention, down_block_types=down)
    line = [*arguments[1:], "--model", str(sdxl)]
    names = [row.name for row in real.sections(parsed(*line))[0].rows]
    # What is taught once is taught on the drawings.
    peers = [name for name, method in PEERS.items() if not isinstance(method, LearnsOnce)]
    assert names[2:] == peers


def test_peer_that_the_model_cannot_carry_is_left_out_and_named(arguments, caplog):
    names = [row.name for row in real.sections(parsed(*arguments[1:]))[0].rows]
    assert "B-LoRA" not in names
    assert "The row B-LoRA is left out" in caplog.text


def test_pairs_are_limited_and_named(arguments):
    line = [*arguments[1:], "--figures", "pictures", "--pairs", "1"]
    options = command.parser().parse_args(line)
    bench = real.opener(options)()
    assert [pair.name for pair in bench.pairs] == ["sally_ride_1-portrait_vangogh_1889"]
    pair = bench.pairs[0]
    assert pair.prompt == "a painting of a woman in S* style"
    assert pair.style_words == "an impressionist painting by van Gogh"
    assert pair.style_prompt == "a painting of a man with a beard in S* style"
    assert pair.face.shape == (64, 64, 3)


def test_command_says_in_a_sentence_what_is_wrong(arguments, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(sys, "argv", [*arguments, "--faces", str(tmp_path / "empty")])
    with pytest.raises(SystemExit, match=r"empty holds no \.jpg"):
        command.main()


def test_try_says_how_long_and_writes_a_strip_and_its_settings(
    arguments, model, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(real_try, "CONFIG", TrainConfig(steps=2))
    monkeypatch.setattr(real_try, "SAMPLING", Sampling(steps=2))
    face, style = tmp_path / "faces" / "someone.png", tmp_path / "styles"
    line = ["quality", "real", "--try", str(model), "--face", str(face), "--who", "a woman"]
    line += ["--style", str(style / "portrait_vangogh_1889.jpg"), "--results", str(tmp_path / "to")]
    monkeypatch.setattr(sys, "argv", line)
    command.main()
    passes = round(2 * 2 * 2.2 + SETTINGS.redrawing.steps * 4 + 4 * 2 * 2)
    first, last = (one.message for one in caplog.records if one.name == "evaluation.real_try")
    assert first.startswith(f"{passes} passes through the U-Net: about ")
    assert last.endswith("template=results.yml")
    said = json.loads((tmp_path / "to" / "try.json").read_text())
    assert said["style"]["prompt"] == "a painting of a woman in S* style"
    assert said["style"]["settings"]["alignment"] == "drawn"
    assert said["seconds"].keys() == {"training", "images"}
    assert said["versions"].keys() == {"acfun", "diffusers", "python", "torch"}
    assert said["card"] == {"name": "cpu"}
    strip = np.asarray(Image.open(tmp_path / "to" / "try.jpg").convert("L"), dtype=float)
    shown = strip[60:300, 200:]
    columns = [shown[:, n * 264 : n * 264 + 240] for n in range(6)]
    assert all(abs(a - b).mean() > 1 for n, a in enumerate(columns) for b in columns[:n])
