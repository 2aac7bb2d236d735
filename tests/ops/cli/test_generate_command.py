"""``python -m acfun_ops generate`` and ``inspect``: what is drawn, and what is shown."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from headless_files import pixels
from tiny_pipeline import write_pipeline

from acfun_ops.cli import generate as generate_command
from acfun_ops.style.style_file import load_style, save_style

ROOT = Path(__file__).resolve().parents[3]


def test_generating_draws_what_the_options_say(line, trained):
    line.out = trained
    out = line.folder / "out.png"

    def drawn(*options):
        code, said, _ = line.generate(*options)
        assert (code, said) == (0, f"Saved {out}\n")
        return pixels(out)

    plain = drawn()
    assert plain.shape == (32, 32, 3)
    assert np.array_equal(drawn(), plain)
    options = [
        ("--seed", 1),
        ("--guidance", 2),
        ("--strength", 0.5),
        ("--abstract-strength", 0),
        ("--encoder-strength", 0),
        ("--middle-strength", 0),
        ("--decoder-strength", 0),
        ("--negative", "zzz"),
        ("--prompt", "another S*"),
        ("--steps", 3),
    ]
    pictures = [plain, *(drawn(*option) for option in options)]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert drawn("--size", 64).shape == (64, 64, 3)


def test_strength_0_is_the_sum_of_all_strengths_0(line, trained):
    line.out = trained
    off = [f"--{part}-strength=0" for part in ("abstract", "encoder", "middle", "decoder")]
    pictures = []
    for options in (["--strength=0"], off):
        line.generate(*options)
        pictures.append(pixels(line.folder / "out.png"))
    assert np.array_equal(*pictures)


def test_several_pictures_have_their_seeds_in_their_names(line, trained):
    line.out = trained
    line.generate("--seed", 7, "--count", 2)
    second = pixels(line.folder / "out_seed8.png")
    assert not np.array_equal(pixels(line.folder / "out_seed7.png"), second)
    line.generate("--seed", 8)
    assert np.array_equal(pixels(line.folder / "out.png"), second)


def test_a_place_that_cannot_be_written_is_refused_before_drawing(line, trained, monkeypatch):
    line.out = trained
    monkeypatch.setattr(generate_command, "load_text_to_image", lambda *a: pytest.fail("Loaded."))
    (line.folder / "out_seed7.png").mkdir()
    said = line.error(line.generate("--seed", 7, "--count", 2))
    assert "The picture could not be written to" in said and "out_seed7.png" in said


def test_inspecting_escapes_what_a_terminal_would_obey(line, trained):
    style, path = load_style(trained), line.folder / "odd.safetensors"
    prompt = "一 S* \x1b[2J\ud800"
    save_style(replace(style, facts=replace(style.facts, prompt=prompt)), path)
    code, said, _ = line.run("inspect", path)
    assert (code, "prompt        一 S* \\x1b[2J\\ud800\n" in said) == (0, True)


def test_a_terminal_without_the_letters_gets_escapes(trained, tmp_path):
    path = tmp_path / "画.safetensors"
    path.write_bytes(trained.read_bytes())
    command = [sys.executable, "-m", "acfun_ops", "inspect", str(path)]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (ran.returncode, b"\\u753b.safetensors (" in ran.stdout) == (0, True), ran.stderr


def test_a_prompt_without_the_word_draws_with_a_note(line, trained):
    line.out = trained
    code, _, errors = line.generate(prompt="a woman")
    assert code == 0
    assert "note: The prompt does not name the style; S*" in errors
    assert "note:" not in line.generate()[2]


def test_a_style_of_another_width_is_refused(line, trained, tmp_path_factory):
    line.out = trained
    other = write_pipeline(tmp_path_factory.mktemp("other"), block_out_channels=(24, 32))
    line.model = other
    message = line.error(line.generate())
    assert (
        "trained on another kind of model with other blocks than this model: its 8 and" in message
    )


def test_a_style_of_another_family_is_refused(line, trained):
    style = load_style(trained)
    save_style(replace(style, facts=replace(style.facts, family="sd1")), line.out)
    assert "trained on SD1.x; this model is another kind of model" in line.error(line.generate())


def test_inspecting_shows_facts_sizes_and_norms(line, trained):
    code, said, _ = line.run("inspect", trained)
    style = load_style(trained)
    assert code == 0
    for text in (
        f"({trained.stat().st_size / 1e6:.2f} MB)",
        "family        custom, embeddings 96 wide",
        "prompt        A painting of a person in S* style",
        "3 steps, seed 0",
        "style tokens  17 x 96",
        style.facts.run,
    ):
        assert text in said
    rows = [
        row.split() for row in said.splitlines() if row.startswith(("  input", "  mid", "  out"))
    ]
    assert [row[0] for row in rows][:3] == [
        "input_blocks.1.0",
        "input_blocks.3.0",
        "middle_block.0",
    ]
    assert len(rows) == 8
    scale = style.concrete["input_blocks.1.0"]
    both = torch.cat([scale["scale.weight"].flatten(), scale["scale.bias"]]).float()
    assert rows[0][1:5] == ["encoder", "16", "4", f"{both.norm():.4f}"]
