"""``python -m acfun_ops``: mistakes, and the command line as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from headless_files import QUICK, write_random_picture

from acfun_ops.cli import generate as generate_command
from acfun_ops.cli import ray_cluster
from acfun_ops.style.style_file import load_style

ROOT = Path(__file__).resolve().parents[3]


def started(*arguments, **options):
    """Start the command line as a process of its own."""
    command = [sys.executable, "-m", "acfun_ops", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes, **options)


def test_mistakes_in_files_are_one_sentence_each(line, trained):
    broken = line.folder / "broken.png"
    broken.write_bytes(line.style.read_bytes()[:100])
    small = write_random_picture(line.folder / "small.png", 1, (20, 20))
    text = line.folder / "text.png"
    text.write_text("no picture")
    for changes, message in (
        ({"model": line.folder}, "has no model_index.json"),
        ({"style": line.folder / "none.png"}, "could not be read as a picture: No such file"),
        ({"style": text}, "could not be read as a picture: cannot identify"),
        ({"face": broken}, "could not be read as a picture"),
        ({"face": small}, "small.png is 20 x 20 pixels; each side must be 64 or more"),
        ({"out": line.style / "my.safetensors"}, "could not be written"),
        ({"out": line.folder / "my.ckpt"}, "does not end in .safetensors"),
    ):
        assert message in line.error(line.train(**changes))
    assert "could not be read" in line.error(line.train("--resume-from", line.folder / "none"))
    line.out = trained
    for changes, message in (
        ({"style-file": text}, "is no usable ACFun style"),
        ({"out": line.folder / "out.gif"}, "does not end in .png, .jpg or .webp"),
        ({"out": line.style / "out.png"}, "could not be written"),
    ):
        assert message in line.error(line.generate(**changes))
    assert "could not be read" in line.error(line.run("inspect", line.folder / "none"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--prompt=a woman", "does not name the style: it needs S* as a word of its own"),
        ("--steps=0", "steps is 0; expected 1 to"),
        ("--learning-rate=2", "learning_rate is 2"),
        ("--device=nowhere", "There is no device 'nowhere' here"),
    ],
)
def test_mistakes_in_a_trainings_options_are_one_sentence_each(line, option, message):
    assert message in line.error(line.train(option))
    assert not line.out.exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--steps=0", "steps is 0"),
        ("--count=0", "count is 0; expected 1 or more"),
        ("--size=30", "size is 30; expected 0 or a multiple of 8"),
        ("--seed=-1", "seed -1"),
    ],
)
def test_mistakes_in_a_drawings_options_are_one_sentence_each(line, trained, option, message):
    line.out = trained
    assert message in line.error(line.generate(option))


def test_a_machine_without_memory_left_is_told_of(line, trained, monkeypatch):
    def exhausted(*arguments):
        raise MemoryError

    line.out = trained
    monkeypatch.setattr(generate_command, "load_text_to_image", exhausted)
    code, _, errors = line.generate()
    assert (code, errors) == (
        1,
        "error: Out of memory. Use a smaller size or resolution, or --device cpu.\n",
    )


def test_a_missing_library_is_named(line, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for name in ("cli.train", "backbones.diffusers_backbone"):
        monkeypatch.delitem(sys.modules, f"acfun_ops.{name}")
    message = line.error(line.train())
    assert message == 'error: diffusers is not installed. Run: pip install ".[headless]"'


def test_ray_is_named_where_it_is_missing(line, monkeypatch):
    monkeypatch.setattr(ray_cluster, "ray", None)
    pairs = line.folder / "pairs.csv"
    pairs.write_text("style,face\nstyle.png,face.png\n")
    files = ["--model", line.model, "--out", line.folder / "styles"]
    message = line.error(line.run("train-many", pairs, *files))
    assert message == 'error: ray is not installed. Run: pip install ".[cluster]"'


def test_a_library_that_is_too_old_is_named(line, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", ModuleType("diffusers"))
    for name in ("cli.train", "backbones.diffusers_backbone"):
        monkeypatch.delitem(sys.modules, f"acfun_ops.{name}")
    message = line.error(line.train())
    assert message.startswith("error: The installed diffusers does not work")
    assert "cannot import name" in message and "Run: pip install --upgrade" in message


@pytest.mark.parametrize("command", ["train", "generate", "inspect", "demo"])
def test_help_has_examples(line, command):
    code, said, _ = line.run(command, "--help")
    assert code == 0
    assert f"  python -m acfun_ops {command}" in said


def test_a_process_trains_and_ctrl_c_saves(line):
    files = [
        "--model",
        line.model,
        "--style-image",
        line.style,
        "--face-image",
        line.face,
        "--out",
        line.out,
    ]
    options = [*QUICK, "--steps=100000"]
    with started("train", *files, *options) as process:
        deadline = time.monotonic() + 120
        seen = ""
        while "/100000 [00:0" not in seen and time.monotonic() < deadline:
            seen += process.stderr.read(1)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    steps = load_style(line.out).facts.steps
    assert f"Stopped after step {steps} of 100000; the style is saved at {line.out}" in said
    said_besides = [part for part in re.split(r"[\r\n]", seen + errors) if part.strip()]
    assert all(
        part.startswith(("training: ", "note: face_image is cut", "note: style_image is cut"))
        for part in said_besides
    )


def test_a_process_says_a_mistake_on_standard_error_and_nothing_of_the_libraries(line):
    process = started("inspect", line.folder / "none")
    said, errors = process.communicate(timeout=120)
    assert (process.returncode, said) == (2, "")
    assert errors.startswith("error: none could not be read") and errors.count("\n") == 1


def test_importing_the_package_needs_none_of_the_extra_libraries():
    code = "import sys; sys.modules.update(diffusers=None, tqdm=None); "
    code += "import acfun_ops.training.fit, acfun_ops.sampling.generate, acfun_ops.__main__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
