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
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
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

    effect: "memory", "cancel", "nan" or "error", after "preview " in previews only. calls: those of
    the U-Net that it changes, from 1; all if empty. has_previews: whether the training has any.
    """

    text: str
    least: int
    disk: DiskFault | None = None
    effect: str | None = None
    calls: tuple[int, ...] = ()
    has_previews: bool = False


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
        backbone = load_pipeline(self.folder / "tiny")
        if fault.effect is not None:
            _inject(backbone, fault.effect.removeprefix("preview "), fault)
        config = replace(CONFIG, preview_every=2 if fault.has_previews else 0)
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


def _inject(backbone: Any, effect: str, fault: Fault) -> None:
    """Let an effect change some calls of a backbone's ``denoise``, in training or in previews."""
    denoise, count, calls, in_previews = backbone.denoise, 0, fault.calls, fault.effect != effect

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


class ComfyUIHost(Host):
    """Training through the pack's node, in a folder with models."""

    name = "ComfyUI"

    def __init__(self) -> None:
        super().__init__()
        start(cpu=True, base_directory=str(self.folder))
        models = load("models_dir").ModelsDir(self.folder / "models")
        library = load("comfy_library").ComfyLibrary(models)
        effects = load("faulty_models")
        self.faulty = effects.faulty
        self.effects = {
            "memory": effects.run_out_of_memory,
            "cancel": effects.cancel,
            "nan": effects.not_a_number,
            "error": effects.fail,
        }
        self.nodes = load("pack_nodes").PackNodes(import_pack(), library)
        node = self.nodes.nodes["ACFunTrainStyle"]
        self.nodes.nodes["ACFunTrainStyle"] = type("Train", (node,), {"save_every": 1})
        self.model = library.checkpoint("sd1")[0]
        self.styles = self.nodes.folder.style_folder() / "training"
        self.style: Any = None

    @override
    def train(self, fault: Fault) -> None:
        injected: AbstractContextManager[None] = nullcontext()
        if fault.effect is not None:
            effect, calls = self._effect(fault.effect), fault.calls or range(1, 10_000)
            injected = self.faulty(self.model, effect, calls)
        self.style = None
        inputs = {"steps": STEPS, "preview_every": 2 if fault.has_previews else 0}
        interrupted = load("comfy.model_management").InterruptProcessingException
        with injected:
            try:
                inputs = self.nodes.train_inputs() | inputs
                self.style = self.nodes.run("ACFunTrainStyle", **inputs)[0]
            except (interrupted, self.nodes.error, KeyError):
                load("comfy.model_management").interrupt_current_processing(False)

    def _effect(self, name: str) -> Any:
        effect = self.effects[name.removeprefix("preview ")]
        if not name.startswith("preview "):
            return effect

        def change_preview(denoised: Tensor) -> Any:
            return denoised if torch.is_grad_enabled() else effect(denoised)

        return change_preview

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
