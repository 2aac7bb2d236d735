"""ComfyUI in this process: models with random weights, the pack's nodes, a folder for styles."""

import platform
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from ...comfyui_host import import_pack, load, start
from .device import GIB, Gpu

KINDS = {"sd1": "SD15", "sdxl": "SDXL"}
Sockets = tuple[Any, Any, Any, Any]


@dataclass(frozen=True)
class Scale:
    """How large everything is: full-size, or as small as in the tests."""

    is_small: bool

    def side(self, family: str) -> int:
        """Return the width and height of training images in pixels."""
        return 64 if self.is_small else {"sd1": 512, "sdxl": 1024}[family]

    def steps(self, steps: int) -> int:
        """Return how many steps to do where ``steps`` are wanted."""
        return min(steps, 6) if self.is_small else steps

    def states(self, family: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return random fp16 weights of a checkpoint and of a CLIP vision model, on the CPU."""
        tiny, device = load("tiny_models"), "cuda" if torch.cuda.is_available() else "cpu"
        small = {"sd1": tiny.SD1_UNET, "sdxl": tiny.SDXL_UNET}
        unets = small if self.is_small else load("simulated_training").FULL_UNETS
        state = tiny.checkpoint_state(KINDS[family], unets[family], device=device)
        return state, tiny.clip_vision_state(device=device)


class Models:
    """The models of a family, "sd1" or "sdxl", and the pack's nodes on them."""

    def __init__(self, scale: Scale, deterministic: bool = False, family: str = "sd1") -> None:
        self.scale, self.family, self.side = scale, family, scale.side(family)
        self.base = tempfile.TemporaryDirectory(prefix="on-a-gpu-")
        self.gpu = Gpu()
        start(cpu=not self.gpu.is_there, base_directory=self.base.name, deterministic=deterministic)
        self.state, self.vision_state = scale.states(family)
        self.gpu.clear()
        library = SimpleNamespace(
            checkpoint=lambda key: self.sockets[:3], clip_vision=lambda: self.sockets[3]
        )
        self.nodes = load("pack_nodes").PackNodes(import_pack(), library)

    def machine(self) -> dict[str, str]:
        """Return the GPU and the versions."""
        return {
            "card": f"{self.gpu.name}, {self.gpu.total / GIB:.1f} GiB",
            "torch": torch.__version__,
            "ComfyUI": load("comfyui_version").__version__,
            "transformers": load("transformers").__version__,
            "Python": platform.python_version(),
        }

    @cached_property
    def sockets(self) -> Sockets:
        """MODEL, CLIP, VAE and CLIP_VISION that most rows share, in fp16."""
        return self.load()

    def load(self, weights: str = "fp16", device: str | None = None) -> Sockets:
        """Return MODEL, CLIP, VAE and CLIP_VISION as ComfyUI's loaders make them.

        weights: the U-Net's, fp16, bf16, fp8 or fp32. device: of U-Net and text encoder.
        """
        options: dict[str, Any] = {}
        encoder: dict[str, Any] = {}
        if weights != "fp16":
            options["dtype"] = load("simulated_training").FLOATS[weights]
        if device is not None:
            encoder = dict.fromkeys(("load_device", "offload_device"), torch.device(device))
            options |= encoder
        with torch.inference_mode():
            model, clip, vae, _ = load("comfy.sd").load_state_dict_guess_config(
                dict(self.state), model_options=options, te_model_options=encoder
            )
            vision = load("comfy.clip_vision").load_clipvision_from_sd(dict(self.vision_state))
        return model, clip, vae, vision

    def unload(self) -> None:
        """Remove all models from the GPU."""
        load("comfy.model_management").unload_all_models()
        load("comfy.model_management").soft_empty_cache()
        self.gpu.clear()

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

    @torch.inference_mode()
    def sample(
        self, sockets: Sockets, style: Any = None, side: int | None = None, steps: int = 8
    ) -> Tensor:
        """Return an image ``(1, h, w, 3)`` from noise; with a style, by both Apply nodes."""
        stock = load("nodes")
        model, clip, vae, _ = sockets
        positive = stock.CLIPTextEncode().encode(clip, "a painting of a woman")[0]
        negative = stock.CLIPTextEncode().encode(clip, "")[0]
        if style is not None:
            positive = self.nodes.embed(style, clip, "a painting of a woman in S* style")
            model = self.nodes.adapt(model, style)
        small = (side or self.side) // 8
        latent = {"samples": torch.zeros(1, 4, small, small)}
        options = (5, self.scale.steps(steps), 7.0, "euler", "normal")
        sampled = stock.KSampler().sample(model, *options, positive, negative, latent, 1.0)[0]
        image: Tensor = stock.VAEDecode().decode(vae, sampled)[0].cpu()
        return image

    @contextmanager
    def simulate_gpu(self, total: float | None, state: str | None) -> Iterator[None]:
        """Simulate a GPU with ``total`` bytes free, in one of ComfyUI's VRAM states, and empty."""
        mm = load("comfy.model_management")
        with ExitStack() as stack:
            self.unload()
            stack.callback(self.unload)
            stack.enter_context(self.gpu.simulate(total))
            if state is not None:
                stack.enter_context(mock.patch.object(mm, "vram_state", mm.VRAMState[state]))
            yield


def style_distance(one: Any, other: Any) -> float:
    """Return the distance between the trained tensors of two styles, relative to their norm."""
    pairs = [(tensor, other.abstract[name]) for name, tensor in one.abstract.items()]
    for block, state in one.concrete.items():
        pairs += [(tensor, other.concrete[block][name]) for name, tensor in state.items()]
    squares = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)
    return float((squares / sum(float(a.double().square().sum()) for a, _ in pairs)) ** 0.5)


def image_distance(one: Tensor, other: Tensor) -> dict[str, float]:
    """Return the mean and the largest difference of two images, in levels of 255."""
    difference = 255 * (one.double() - other.double()).abs()
    return {"mean": round(float(difference.mean()), 4), "most": round(float(difference.max()), 4)}
