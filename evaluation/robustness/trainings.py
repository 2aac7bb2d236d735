"""Where trainings meet faults: ComfyUI's nodes in this process, and the command line.

``python -m evaluation.robustness.trainings FOLDER`` trains by the second until it is killed.
"""

import contextlib
import io
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from acfun_ops.backbones.diffusers_backbone import load_pipeline
from acfun_ops.cli.training_run import train_and_save
from acfun_ops.errors import ACFunError
from acfun_ops.image_files import read_image
from acfun_ops.style.style_file import load_style
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.events import TrainImages

from ..comfyui_host import ROOT, import_pack, load, start
from .failing_disk import DiskFault

STEPS = 4
# "drawn" would call the U-Net before the first step as a preview does.
CONFIG = TrainConfig(steps=STEPS, learning_rate=0.02, resolution=64, rank=4, layers=1)
CONFIG = replace(CONFIG, alignment="staged", preview_every=0)
START_SECONDS = 180.0


@dataclass(frozen=True)
class Fault:
    """One fault: a disk's or an effect on the U-Net, and how many steps the style must have.

    effect: "memory", "cancel", "nan" or "error". calls: those of the U-Net that it changes, from 1;
    all if empty. in_previews: the training has some, and only they are changed.
    """

    text: str
    least: int
    disk: DiskFault | None = None
    effect: str | None = None
    calls: tuple[int, ...] = ()
    in_previews: bool = False

    def spoiler(self, cancel: Callable[[], None]) -> Callable[[Any], Any]:
        """Return what the output of each call of the U-Net goes through; ``cancel`` is the user."""
        number = count(1)

        def spoil(output: Any) -> Any:
            is_other = next(number) not in self.calls and self.calls
            if is_other or torch.is_grad_enabled() == self.in_previews:
                return output
            if self.effect == "memory":
                raise torch.OutOfMemoryError("out of memory")
            if self.effect == "error":
                raise KeyError("from a benchmark")
            if self.effect == "cancel":
                cancel()
            return output * float("nan") if self.effect == "nan" else output

        return spoil


class Host:
    """ComfyUI's nodes or the command line, by name, and where they save styles; to be closed."""

    name: str
    styles: Path

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="faults-")
        self.folder = Path(self._folder.name)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def train(self, fault: Fault) -> None:
        """Train ``STEPS`` steps, saving after each, with the effect of a fault on the U-Net.

        Errors that the host raises by design end here; any other is raised.
        """
        raise NotImplementedError

    def steps_on_disk(self) -> int:
        """Load the style that is on disk; return its steps, 0 without one."""
        found = self.styles.glob("*.safetensors")
        return max((load_style(path).facts.steps for path in found), default=0)

    def clear(self) -> None:
        """Remove what earlier runs left."""
        for path in filter(Path.is_file, self.styles.glob("*")):
            path.unlink()


class CommandLineHost(Host):
    """Training on the command line."""

    name = "command line"

    def __init__(self) -> None:
        super().__init__()
        load("tiny_pipeline").write_pipeline(self.folder / "tiny")
        for seed, name in enumerate(("style", "face")):
            load("headless_files").write_random_picture(self.folder / f"{name}.png", seed + 1)
        self.styles = self.folder / "out"

    @override
    def train(self, fault: Fault) -> None:
        backbone: Any = load_pipeline(self.folder / "tiny")
        spoil = fault.spoiler(partial(signal.raise_signal, signal.SIGINT))
        denoise = backbone.denoise
        backbone.denoise = lambda *inputs: spoil(denoise(*inputs))
        config = replace(CONFIG, preview_every=2 if fault.in_previews else 0)
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


class ComfyUIHost(Host):
    """Training through the pack's node, in a folder with models."""

    name = "ComfyUI"

    def __init__(self) -> None:
        super().__init__()
        start(cpu=True, base_directory=str(self.folder))
        models = load("models_dir").ModelsDir(self.folder / "models")
        library = load("comfy_library").ComfyLibrary(models)
        self.nodes = load("pack_nodes").PackNodes(import_pack(), library)
        node = self.nodes.nodes["ACFunTrainStyle"]
        self.nodes.nodes["ACFunTrainStyle"] = type("Train", (node,), {"save_every": 1})
        self.model = library.checkpoint("sd1")[0]
        self.styles = self.nodes.folder.style_folder() / "training"
        self.style: Any = None

    @override
    def train(self, fault: Fault) -> None:
        management, unet = load("comfy.model_management"), self.model.model.diffusion_model
        spoil = fault.spoiler(management.interrupt_current_processing)
        self.style = None
        inputs = {"steps": STEPS, "preview_every": 2 if fault.in_previews else 0}
        # A hook, as the name of a training tells a patched MODEL apart.
        with unet.register_forward_hook(lambda unet, given, output: spoil(output)):
            try:
                inputs = self.nodes.train_inputs() | inputs
                self.style = self.nodes.run("ACFunTrainStyle", **inputs)[0]
            except (management.InterruptProcessingException, self.nodes.error, KeyError):
                management.interrupt_current_processing(False)

    def fail_later(self) -> None:
        """Let a node after the training fail: the adapters get None in place of a model."""
        try:
            self.nodes.adapt(None, self.style)
        except (self.nodes.error, AttributeError):
            return
        raise RuntimeError("the later node did not fail")

    def fail_saving(self) -> None:
        """Let Save ACFun Style meet a full disk; it fails with its own message."""
        try:
            with DiskFault("write", forever=True).inject():
                self.nodes.run("ACFunSaveStyle", style=self.style, filename_prefix="a")
        except self.nodes.error:
            return
        raise RuntimeError("Save did not fail")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    pipeline = load_pipeline(folder / "tiny")
    train(pipeline, replace(CONFIG, steps=1_000_000), folder)
