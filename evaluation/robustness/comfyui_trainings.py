"""Training in ComfyUI's nodes, in this process, on the tiny models of the tests."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..comfyui_host import import_pack, load, start
from .failing_disk import DiskFault
from .host import STEPS, Host


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

    def train(
        self, effect: str | None = None, calls: tuple[int, ...] = (), has_previews: bool = False
    ) -> None:
        """Train, see Host; Cancel, our own errors and injected ones end here."""
        fault: AbstractContextManager[None] = nullcontext()
        if effect is not None:
            fault = self.faulty(self.model, self._effect(effect), calls or range(1, 10_000))
        self.style = None
        inputs = {"steps": STEPS, "preview_every": 2 if has_previews else 0}
        interrupted = load("comfy.model_management").InterruptProcessingException
        with fault:
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
