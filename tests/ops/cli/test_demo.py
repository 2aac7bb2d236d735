"""The demo on a random pipeline in the layout of the bundled one: what it trains and writes."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from headless_files import pixels, write_random_picture
from PIL import Image

from acfun_ops.cli import demo as demo_command
from acfun_ops.cli import training_run as saved_training
from acfun_ops.cli.parser import parse_arguments
from acfun_ops.contact_sheet import SheetRow, contact_sheet
from acfun_ops.errors import ACFunError
from acfun_ops.style.style_file import load_style


@pytest.fixture
def nano(tiny_model, tmp_path):
    folder = tmp_path / "nano"
    shutil.copytree(tiny_model, folder / "prior")
    for number, name in enumerate(("style", "face", "truth")):
        write_random_picture(folder / "demo" / f"{name}.png", number)
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Two steps of training and one of drawing, with settings that change a lot."""
    training = replace(demo_command.TRAINING, steps=2, learning_rate=0.05, resolution=64)
    monkeypatch.setattr(demo_command, "TRAINING", training)
    monkeypatch.setattr(demo_command, "DRAWING", replace(demo_command.DRAWING, steps=1))


def cells(sheet, side, columns, rows):
    """Return the pictures of a sheet by row and column, found by their place from the end."""
    gap = 8
    step = side + gap
    right, bottom = sheet.shape[1] - 16, sheet.shape[0] - 16
    return [
        [
            sheet[
                bottom - (rows - r) * step : bottom - (rows - r) * step + side,
                right - (columns - c) * step : right - (columns - c) * step + side,
            ]
            for c in range(columns)
        ]
        for r in range(rows)
    ]


def test_it_trains_saves_and_draws_one_sheet(nano, quick, tmp_path, capsys):
    out = tmp_path / "acfun_demo"
    assert demo_command.make_demo(nano, out) == 0
    said = capsys.readouterr().out
    assert "is a toy" in said and "use ComfyUI with an SD checkpoint" in said
    assert f"The style is saved at {out / 'style.safetensors'}" in said
    assert f"The contact sheet is at {out / 'contact_sheet.png'}" in said
    assert load_style(out / "style.safetensors").facts.steps == 2
    sheet = pixels(out / "contact_sheet.png")
    rows = len(demo_command.SEEDS) + len(demo_command.OTHER_PROMPTS)
    pictures = cells(sheet, demo_command.SHEET_SIDE, 7, rows)
    assert len(demo_command.SEEDS) >= 3 and len(demo_command.OTHER_PROMPTS) == 2
    for row in pictures:
        assert np.array_equal(row[0], pictures[0][0]) and np.array_equal(row[1], pictures[0][1])
    seeds = len(demo_command.SEEDS)
    answers = [row[2].std(axis=(0, 1)).max() > 0 for row in pictures]
    assert answers == [True] * seeds + [False] * (rows - seeds)
    drawn = [cell.tobytes() for row in pictures for cell in row[3:]]
    assert len(set(drawn)) == len(drawn)


def test_a_demo_that_is_interrupted_keeps_the_style_and_draws_nothing(
    nano, quick, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(saved_training._Reporter, "__call__", lambda self, event: True)
    assert demo_command.make_demo(nano, tmp_path / "out") == 130
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "style.resume",
        "style.safetensors",
    ]


@pytest.mark.parametrize("missing", ["prior", "demo/face.png"])
def test_without_a_clone_it_says_what_it_needs(nano, tmp_path, missing):
    (nano / missing).rename(tmp_path / "away")
    with pytest.raises(ACFunError, match="the demo needs a clone of the repository"):
        demo_command.make_demo(nano, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_looks_in_the_repository_and_writes_here(monkeypatch):
    seen = []
    monkeypatch.setattr(demo_command, "make_demo", lambda *folders: seen.append(folders) or 0)
    options = parse_arguments(["demo"])
    assert demo_command.run(options) == 0
    nano, out = seen[0]
    assert nano.parts[-2:] == ("evaluation", "toy") and (nano.parents[1] / "acfun_ops").is_dir()
    assert str(out) == "acfun_demo"


def test_a_sheet_has_names_above_labels_beside_and_pictures_in_place():
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    sheet = contact_sheet(
        ["a", "b"], [SheetRow("one", [red, blue]), SheetRow("two", [blue, red])], 40
    )
    (first, second), (third, fourth) = cells(np.asarray(sheet), 40, 2, 2)
    assert (first == (255, 0, 0)).all() and (fourth == (255, 0, 0)).all()
    assert (second == (0, 0, 255)).all() and (third == (0, 0, 255)).all()
    blank = contact_sheet(["", ""], [SheetRow("", [red, blue]), SheetRow("", [blue, red])], 40)
    changed = np.argwhere((np.asarray(sheet) != np.asarray(blank)).any(axis=-1))
    top = np.asarray(sheet).shape[0] - 16 - 2 * 48
    left = np.asarray(sheet).shape[1] - 16 - 2 * 48
    assert {bool(y < top) for y, x in changed} == {True, False}
    assert all(y < top or x < left for y, x in changed)


def test_a_long_label_is_wrapped_beside_its_pictures():
    pictures = [Image.new("RGB", (4, 4), "red")]
    label = "a painting of a woman with a very large hat"
    sheet = np.asarray(contact_sheet(["a"], [SheetRow(label, pictures)], 120))
    assert (cells(sheet, 120, 1, 1)[0][0] == (255, 0, 0)).all()
