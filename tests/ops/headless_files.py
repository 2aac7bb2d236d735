"""Pictures in files, and the command line run in this process, for tests of it.

Its fixtures are in the conftest of this folder.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acfun_ops.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
# Trains in a second on the tiny pipeline and changes a lot. It redraws no face before the first
# step, so that one call of the model is one step.
QUICK = [
    "--steps=3",
    "--learning-rate=0.02",
    "--resolution=64",
    "--rank=4",
    "--layers=1",
    "--preview-every=0",
    "--alignment=staged",
]


def run_python(code: str) -> list[str]:
    """Run a program in a process of its own, in the repository's root; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def write_random_picture(path: Path, seed: int, size: tuple[int, int] = (80, 64)) -> Path:
    """Write a coarse random picture and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(levels).resize(size).save(path)
    return path


class CommandLine:
    """Runs commands on one pipeline and one pair; returns exit code, output and errors."""

    def __init__(self, model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.folder, self.capsys = model, folder, capsys
        self.style = write_random_picture(folder / "style.png", 1)
        self.face = write_random_picture(folder / "face.png", 2)
        self.out = folder / "my.safetensors"

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Run a command; argparse's own exits count like any other."""
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def train(self, *options: object, **changes: object) -> tuple[int, str, str]:
        """Train quickly; ``changes`` replace model, style, face or out."""
        files = {n: getattr(self, n) for n in ("model", "style", "face", "out")} | changes
        names = {"style": "style-image", "face": "face-image"}
        named = [part for n, path in files.items() for part in (f"--{names.get(n, n)}", path)]
        return self.run("train", *named, *QUICK, *options)

    def generate(self, *options: object, **changes: object) -> tuple[int, str, str]:
        """Draw in two steps with the style that was trained."""
        files = {"model": self.model, "style-file": self.out, "out": self.folder / "out.png"}
        files |= {"prompt": "A woman in S* style", **changes}
        named = [part for name, value in files.items() for part in (f"--{name}", value)]
        return self.run("generate", *named, "--steps", 2, *options)

    def error(self, ran: tuple[int, str, str]) -> str:
        """Return the one sentence of a refused command."""
        code, _, errors = ran
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert (code, len(lines)) == (2, 1), errors
        assert "Traceback" not in errors
        return lines[0]


def pixels(path: Path) -> np.ndarray:
    """Return the levels of a picture file, ``(h, w, 3)``."""
    return np.asarray(Image.open(path).convert("RGB")).astype(int)
