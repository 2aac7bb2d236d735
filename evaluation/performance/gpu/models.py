"""ComfyUI in this process: models with random weights, the pack's nodes, a folder for styles."""

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from ...comfyui_host import import_pack, load, start
from .device import GIB, Gpu

KINDS = {"sd1": "SD15", "sdxl": "SDXL"}
SIDES = {"sd1": 512, "sdxl": 1024}
SMALL_SIDE, SMALL_STEPS = 64, 6
Sockets = tuple[Any, Any, Any, Any]


def random_states(family: str, is_small: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return random fp16 weights of a checkpoint and of a CLIP vision model, on the CPU."""
    tiny, device = load("tiny_models"), "cuda" if torch.cuda.is_available() else "cpu"
    small = {"sd1": tiny.SD1_UNET, "sdxl": tiny.SDXL_UNET}
    unets = small if is_small else load("simulated_training").FULL_UNETS
    state = tiny.checkpoint_state(KINDS[family], unets[family], device=device)
    return state, tiny.clip_vision_state(device=device)


def machine(gpu: Gpu) -> dict[str, str]:
    """Return the GPU and the versions."""
    name = torch.cuda.get_device_name() if gpu.is_there else "no GPU"
    return {
        "card": f"{name}, {gpu.total / GIB:.1f} GiB",
        "torch": torch.__version__,
        "ComfyUI": load("comfyui_version").__version__,
        "transformers": load("transformers").__version__,
        "Python": platform.python_version(),
    }


class Models:
    """The models of a family, "sd1" or "sdxl", and the pack's nodes on them.

    is_small: they are the tests'. is_deterministic: ComfyUI has its option ``--deterministic``.
    """

    def __init__(self, family: str, is_small: bool, is_deterministic: bool = False) -> None:
        self.family, self.is_small = family, is_small
        self.side = SMALL_SIDE if is_small else SIDES[family]
        self.base = tempfile.TemporaryDirectory(prefix="on-a-gpu-")
        self.gpu = Gpu()
        if is_deterministic:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # As ComfyUI's option sets it.
        options = {"base_directory": self.base.name, "deterministic": is_deterministic}
        start(cpu=not self.gpu.is_there, **options)
        self.state, self.vision_state = random_states(family, is_small)
        torch.cuda.empty_cache()
        library = SimpleNamespace(
            checkpoint=lambda key: self.sockets[:3], clip_vision=lambda: self.sockets[3]
        )
        self.nodes = load("pack_nodes").PackNodes(import_pack(), library)

    @cached_property
    def sockets(self) -> Sockets:
        """MODEL, CLIP, VAE and CLIP_VISION that most rows share, in fp16."""
        return self.load()

    def load(self, weights: str = "fp16") -> Sockets:
        """Return MODEL, CLIP, VAE and CLIP_VISION as ComfyUI's loaders make them.

        weights: the U-Net's, fp16, fp8 or fp32.
        """
        dtype = load("simulated_training").FLOATS[weights]
        options = {} if weights == "fp16" else {"dtype": dtype}
        with torch.inference_mode():
            model, clip, vae, _ = load("comfy.sd").load_state_dict_guess_config(
                dict(self.state), model_options=options
            )
            vision = load("comfy.clip_vision").load_clipvision_from_sd(dict(self.vision_state))
        return model, clip, vae, vision

    def train(self, **inputs: Any) -> tuple[Any, list[float]]:
        """Train by the node with its defaults except for the inputs; return style and losses."""
        config = load("acfun_pack.acfun_ops.training.config").TrainConfig()
        # The tests' nodes have others of these.
        defaults = {n: getattr(config, n) for n in ("alignment", "learning_rate", "rank")}
        images = dict(zip(("style_image", "face_image"), self.images(), strict=True))
        self.nodes.texts.clear()
        style, losses, _ = self.nodes.train(
            **(defaults | images | {"resolution": self.side} | inputs)
        )
        return style, losses

    def images(self) -> list[Tensor]:
        """Return a style image and a face photo, ``(1, side, side, 3)``."""
        return [load("pack_nodes").picture(seed, self.side, self.side) for seed in (1, 2)]

    @contextmanager
    def simulate_gpu(self, total: float | None, state: str | None) -> Iterator[None]:
        """Simulate a GPU with ``total`` bytes free, in one of ComfyUI's VRAM states, and empty."""
        mm = load("comfy.model_management")
        with ExitStack() as stack:
            mm.unload_all_models()
            stack.callback(mm.unload_all_models)
            stack.enter_context(self.gpu.simulate(total))
            if state is not None:
                stack.enter_context(mock.patch.object(mm, "vram_state", mm.VRAMState[state]))
            yield
