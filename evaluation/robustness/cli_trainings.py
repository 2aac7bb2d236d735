"""Trainings on the command line, on the tiny pipeline of the tests."""

import contextlib
import io
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from ..comfyui_host import ROOT, load
from .fault import STEPS

QUICK = ["--learning-rate=0.02", "--resolution=64", "--rank=4", "--layers=1"]
START_SECONDS = 180.0


class LinePlace:
    """Trainings through ``python -m acfun_ops train``; a context manager around a folder."""

    name = "command line"

    def __init__(self) -> None:
        write_random_picture = load("headless_files").write_random_picture
        self.folder = tempfile.TemporaryDirectory(prefix="faults-")
        base = Path(self.folder.name)
        self.out = base / "out" / "my.safetensors"
        files = {
            "model": load("tiny_pipeline").write_pipeline(base / "tiny"),
            "style": write_random_picture(base / "style.png", 1),
            "face": write_random_picture(base / "face.png", 2),
            "out": self.out,
        }
        self.command = ["train", *(f"--{n}={path}" for n, path in files.items()), *QUICK]

    def __enter__(self) -> "LinePlace":
        return self

    def __exit__(self, *error: object) -> None:
        self.folder.cleanup()

    def train(self, effect: str | None, calls: tuple[int, ...], previews: bool) -> None:
        """Train, see Place; exit codes and injected errors end here."""
        from acfun_ops.__main__ import main
        from acfun_ops.cli import train as train_command
        from acfun_ops.training import reporting

        load, count = train_command.load_pipeline, 0

        def loaded(*arguments: Any) -> Any:
            backbone = load(*arguments)
            denoise = backbone.denoise

            def faulty(*inputs: Any) -> Any:
                nonlocal count
                count += torch.is_grad_enabled() or not effect or effect.startswith("preview")
                hit = count in calls and torch.is_grad_enabled()
                if effect and effect.startswith("preview"):
                    hit = not torch.is_grad_enabled() and (not calls or count in calls)
                result = denoise(*inputs)
                return _befall(effect.removeprefix("preview "), result) if hit else result

            backbone.denoise = faulty
            return backbone

        # A redrawing would call the U-Net as a preview does.
        options = [f"--steps={STEPS}", f"--preview-every={2 if previews else 0}"]
        options.append("--alignment=staged")
        with (
            mock.patch.object(train_command, "load_pipeline", loaded),
            mock.patch.object(reporting, "KEEP_EVERY", 1),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.suppress(KeyError),
        ):
            main([*self.command, *options])

    def kept_steps(self) -> int:
        """Return the steps of the style; 0 where there is none."""
        from acfun_ops.style.style_file import load_style

        return load_style(self.out).facts.steps if self.out.exists() else 0

    def clear(self) -> None:
        """Remove what a training has left."""
        for path in self.out.parent.glob("*"):
            if path.is_file():
                path.unlink()


def _befall(effect: str, result: Any) -> Any:
    if effect == "memory":
        raise torch.OutOfMemoryError("out of memory")
    if effect == "error":
        raise KeyError("from a benchmark")
    if effect == "cancel":
        signal.raise_signal(signal.SIGINT)
    return result * float("nan") if effect == "nan" else result


def kill_training(line: LinePlace, delay: float) -> int:
    """Kill a training that saves after every step, some time after its first style."""
    line.clear()
    program = (
        "import sys; from acfun_ops.__main__ import main; from acfun_ops.training import reporting;"
        "reporting.KEEP_EVERY = 1; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, *line.command, "--steps=1000000", "--preview-every=0"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, **quiet)
    end = time.monotonic() + START_SECONDS
    while not line.out.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.wait()
    return line.kept_steps()
