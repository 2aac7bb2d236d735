"""Trainings in ComfyUI's nodes, in this process, on the tiny models of the tests."""

import importlib.util
import os
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from .faults import STEPS

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")).expanduser()


class ComfyPlace:
    """Trainings through the pack's node; a context manager around a folder of models."""

    name = "ComfyUI"

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="faults-")
        sys.path[:0] = [str(COMFYUI), str(ROOT / "tests" / "nodes" / "support")]
        import comfy.cli_args

        comfy.cli_args.args.cpu = True
        comfy.cli_args.args.base_directory = self.folder.name
        import faulty_models
        from comfy_library import ComfyLibrary
        from models_dir import ModelsDir
        from pack_nodes import PackNodes

        spec = importlib.util.spec_from_file_location("acfun_pack", ROOT / "__init__.py")
        if spec is None or spec.loader is None:
            raise ImportError("the pack is not where it should be")
        module = importlib.util.module_from_spec(spec)
        sys.modules["acfun_pack"] = module
        spec.loader.exec_module(module)
        library = ComfyLibrary(ModelsDir(Path(self.folder.name) / "models"))
        self.effects = faulty_models
        self.nodes = PackNodes(module, library)
        self.model = library.checkpoint("sd1")[0]

    def __enter__(self) -> "ComfyPlace":
        return self

    def __exit__(self, *error: object) -> None:
        self.folder.cleanup()

    def train(self, effect: str | None, calls: tuple[int, ...], previews: bool) -> None:
        """Train, see Place; Cancel, our own errors and injected ones end here."""
        import comfy.model_management as mm
        from acfun_pack.acfun_ops.training import reporting

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
