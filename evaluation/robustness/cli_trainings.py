"""Training as ``acfun train`` runs it, on the tiny pipeline of the tests.

``python -m evaluation.robustness.cli_trainings FOLDER`` trains until it is killed.
"""

import contextlib
import io
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from acfun_ops.backbones.diffusers_backbone import load_pipeline
from acfun_ops.cli.training_run import train_and_save
from acfun_ops.errors import ACFunError
from acfun_ops.image_files import read_image
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.events import TrainImages

from ..comfyui_host import ROOT, load
from .host import STEPS, Host

# "drawn" would call the U-Net before the first step as a preview does.
CONFIG = TrainConfig(
    steps=STEPS,
    learning_rate=0.02,
    resolution=64,
    rank=4,
    layers=1,
    alignment="staged",
    preview_every=0,
)
START_SECONDS = 180.0


class CommandLineHost(Host):
    """Training on the command line."""

    name = "command line"

    def __init__(self) -> None:
        super().__init__()
        load("tiny_pipeline").write_pipeline(self.folder / "tiny")
        for seed, name in enumerate(("style", "face")):
            load("headless_files").write_random_picture(self.folder / f"{name}.png", seed + 1)
        self.styles = self.folder / "out"

    def train(
        self, effect: str | None = None, calls: tuple[int, ...] = (), has_previews: bool = False
    ) -> None:
        """Train, see Host; our own errors and injected ones end here."""
        backbone = load_pipeline(self.folder / "tiny")
        if effect is not None:
            _inject(backbone, effect.removeprefix("preview "), calls, effect.startswith("preview"))
        config = replace(CONFIG, preview_every=2 if has_previews else 0)
        with (
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.suppress(KeyError, ACFunError),
        ):
            train(backbone, config, self.folder)

    def kill(self, delay: float) -> int:
        """Kill a run some seconds after its first style; return the saved steps."""
        self.clear()
        command = [sys.executable, "-m", __name__, str(self.folder)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + START_SECONDS
        while not any(self.styles.glob("*.safetensors")) and process.poll() is None:
            if time.monotonic() > end:
                break
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        process.wait()
        return self.steps_on_disk()


def train(backbone: Any, config: TrainConfig, folder: Path) -> int:
    """Train on a folder's images and save the style in its folder ``out`` after each step."""
    images = {name: read_image(folder / f"{name}.png") for name in ("style", "face")}
    out = folder / "out" / "my.safetensors"
    return train_and_save(backbone, TrainImages(**images), config, out, None, 1)


def _inject(backbone: Any, effect: str, calls: tuple[int, ...], in_previews: bool) -> None:
    """Let an effect change some calls of a backbone's ``denoise``, in training or in previews."""
    denoise, count = backbone.denoise, 0

    def denoise_faultily(*inputs: Any) -> Any:
        nonlocal count
        is_training = torch.is_grad_enabled()
        count += is_training or in_previews
        result = denoise(*inputs)
        is_hit = is_training != in_previews and (count in calls or (in_previews and not calls))
        return _apply_effect(effect, result) if is_hit else result

    backbone.denoise = denoise_faultily


def _apply_effect(effect: str, result: Any) -> Any:
    if effect == "memory":
        raise torch.OutOfMemoryError("out of memory")
    if effect == "error":
        raise KeyError("from a benchmark")
    if effect == "cancel":
        signal.raise_signal(signal.SIGINT)
    return result * float("nan") if effect == "nan" else result


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    pipeline = load_pipeline(folder / "tiny")
    train(pipeline, replace(CONFIG, steps=1_000_000), folder)
