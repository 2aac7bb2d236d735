"""Trainings in ComfyUI's nodes, in this process, on the tiny models of the tests."""

import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from ..comfyui_host import import_pack, load, start
from .fault import STEPS


class ComfyPlace:
    """Trainings through the pack's node; a context manager around a folder of models."""

    name = "ComfyUI"

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="faults-")
        start(cpu=True, base_directory=self.folder.name)
        models = load("models_dir").ModelsDir(Path(self.folder.name) / "models")
        library = load("comfy_library").ComfyLibrary(models)
        self.effects = load("faulty_models")
        self.nodes = load("pack_nodes").PackNodes(import_pack(), library)
        self.model = library.checkpoint("sd1")[0]

    def __enter__(self) -> "ComfyPlace":
        return self

    def __exit__(self, *error: object) -> None:
        self.folder.cleanup()

    def train(self, effect: str | None, calls: tuple[int, ...], previews: bool) -> None:
        """Train, see Place; Cancel, our own errors and injected ones end here."""
        mm = load("comfy.model_management")
        reporting = load("acfun_pack.acfun_ops.training.reporting")
        fault: AbstractContextManager[None] = nullcontext()
        if effect is not None:
            change = self._effect(effect)
            fault = self.effects.faulty(self.model, change, calls or range(1, 10_000))
        self.style = None
        with mock.patch.object(reporting, "KEEP_EVERY", 1), fault:
            try:
                options = {"steps": STEPS, "preview_every": 2 if previews else 0}
                inputs = self.nodes.train_inputs() | options
                self.style = self.nodes.run("ACFunTrainStyle", **inputs)[0]
            except (mm.InterruptProcessingException, self.nodes.error, KeyError):
                mm.interrupt_current_processing(False)

    def _effect(self, name: str) -> Any:
        plain = {
            "memory": self.effects.run_out_of_memory,
            "cancel": self.effects.cancel,
            "nan": self.effects.not_a_number,
            "error": self.effects.fail,
        }
        kind = name.removeprefix("preview ")
        if kind == name:
            return plain[kind]

        def in_previews(denoised: Tensor) -> Tensor:
            return denoised if torch.is_grad_enabled() else plain[kind](denoised)

        return in_previews

    def kept_steps(self) -> int:
        """Return the steps of the style in models/acfun/training; 0 where there is none."""
        found = list((self.nodes.folder.style_folder() / "training").glob("*.safetensors"))
        return max((self.nodes.style_file.load_style(p).facts.steps for p in found), default=0)

    def clear(self) -> None:
        """Empty models/acfun/training."""
        for path in (self.nodes.folder.style_folder() / "training").glob("*"):
            path.unlink()

    def fail_later(self) -> None:
        """Let a node behind the training fail: the adapters get a model that is none."""
        try:
            self.nodes.adapt(None, self.style)
        except (self.nodes.error, AttributeError):
            return
        raise RuntimeError("the later node did not fail")

    def fail_saving(self) -> None:
        """Let Save ACFun Style fail with its own sentence."""
        try:
            self.nodes.run("ACFunSaveStyle", style=self.style, filename_prefix="a")
        except self.nodes.error:
            return
        raise RuntimeError("Save did not fail")
