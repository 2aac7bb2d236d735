"""A ComfyUI in this process: models with random weights, the pack's nodes, a folder for styles."""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from .card import GIB, Card

COMFYUI = Path(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")).expanduser()
KINDS = {"sd1": "SD15", "sdxl": "SDXL"}
Sockets = tuple[Any, Any, Any, Any]


@dataclass(frozen=True)
class Scale:
    """How large everything is: the real thing, or as small as the tests have it."""

    is_small: bool

    def side(self, family: str) -> int:
        """Return a training's side in pixels."""
        return 64 if self.is_small else {"sd1": 512, "sdxl": 1024}[family]

    def steps(self, steps: int) -> int:
        """Return how many steps to do where ``steps`` are wanted."""
        return min(steps, 6) if self.is_small else steps


class Place:
    """One family's models and the pack's nodes on them.

    Args:
        scale: of the models.
        deterministic: as ComfyUI's option of that name.
        family: "sd1" or "sdxl".
    """

    def __init__(self, scale: Scale, deterministic: bool = False, family: str = "sd1") -> None:
        self.scale, self.family = scale, family
        self.base = tempfile.TemporaryDirectory(prefix="on-a-gpu-")
        sys.path.insert(0, str(COMFYUI))
        import comfy.cli_args

        comfy.cli_args.args.base_directory = self.base.name
        comfy.cli_args.args.deterministic = deterministic
        # Also sets ComfyUI's option for a CPU, where there is no GPU.
        from pack_nodes import PackNodes

        from evaluation import comfyui_host

        self.card = Card()
        self.pack = comfyui_host
        self.side = scale.side(family)
        began = time.time()
        self.state, self.vision_state = self._weights()
        self.drawn_in = time.time() - began
        library = SimpleNamespace(
            checkpoint=lambda key: self.sockets[:3], clip_vision=lambda: self.sockets[3]
        )
        self.nodes = PackNodes(sys.modules["acfun_pack"], library)

    def machine(self) -> dict[str, str]:
        """Return the card and the versions."""
        import transformers
        from comfyui_version import __version__ as comfyui

        return {
            "card": f"{self.card.name}, {self.card.total / GIB:.1f} GiB",
            "torch": torch.__version__,
            "ComfyUI": comfyui,
            "transformers": transformers.__version__,
            "Python": platform.python_version(),
        }

    def _weights(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draw the numbers of a checkpoint and of a CLIP vision model, fp16, on the CPU."""
        import simulated_training
        import tiny_models

        small = {"sd1": tiny_models.SD1_UNET, "sdxl": tiny_models.SDXL_UNET}
        unets = small if self.scale.is_small else simulated_training.FULL_UNETS
        device = "cuda" if self.card.is_there else "cpu"
        unet = unets[self.family]
        state = tiny_models.checkpoint_state(KINDS[self.family], unet, device=device)
        vision = tiny_models.clip_vision_state(device=device)
        self.card.clear()
        return state, vision

    @cached_property
    def sockets(self) -> Sockets:
        """MODEL, CLIP, VAE and CLIP_VISION that most rows share, in fp16."""
        return self.load()

    def load(self, weights: str = "fp16", device: str | None = None) -> Sockets:
        """Return MODEL, CLIP, VAE and CLIP_VISION as ComfyUI's loaders make them.

        Args:
            weights: what the U-Net is stored in: fp16, bf16, fp8 or fp32.
            device: where U-Net and text encoder compute; None is the GPU.
        """
        import comfy.clip_vision
        import comfy.sd
        from simulated_training import FLOATS

        options: dict[str, Any] = {} if weights == "fp16" else {"dtype": FLOATS[weights]}
        encoder: dict[str, Any] = {}
        if device is not None:
            places = dict.fromkeys(("load_device", "offload_device"), torch.device(device))
            options, encoder = options | places, places
        with torch.inference_mode():
            model, clip, vae, _ = comfy.sd.load_state_dict_guess_config(
                dict(self.state), model_options=options, te_model_options=encoder
            )
            vision = comfy.clip_vision.load_clipvision_from_sd(dict(self.vision_state))
        return model, clip, vae, vision

    def forget(self) -> None:
        """Let no model be on the card."""
        import comfy.model_management as mm

        mm.unload_all_models()
        mm.soft_empty_cache()
        self.card.clear()

    def train(self, **inputs: Any) -> tuple[Any, list[float]]:
        """Train by the node, its defaults but for what is given; return style and losses."""
        from acfun_pack.acfun_ops.training.config import TrainConfig

        # The tests' nodes have others of these.
        defaults = {
            name: getattr(TrainConfig(), name) for name in ("alignment", "learning_rate", "rank")
        }
        pictures = dict(zip(("style_image", "face_image"), self.pictures(), strict=True))
        given = defaults | pictures | {"resolution": self.side} | inputs
        self.nodes.texts.clear()
        style, losses, _ = self.nodes.train(**given)
        return style, losses

    def pictures(self) -> list[Tensor]:
        """Return a style picture and a face photo, ``(1, side, side, 3)``."""
        from pack_nodes import picture

        return [picture(seed, self.side, self.side) for seed in (1, 2)]

    @torch.inference_mode()
    def draw(
        self, sockets: Sockets, style: Any = None, side: int | None = None, steps: int = 8
    ) -> Tensor:
        """Return a picture ``(1, h, w, 3)`` from noise; with a style, by both Apply nodes."""
        import nodes as stock

        model, clip, vae, _ = sockets
        positive = stock.CLIPTextEncode().encode(clip, "a painting of a woman")[0]
        negative = stock.CLIPTextEncode().encode(clip, "")[0]
        if style is not None:
            positive = self.nodes.embed(style, clip, "a painting of a woman in S* style")
            model = self.nodes.adapt(model, style)
        small = (side or self.side) // 8
        latent = {"samples": torch.zeros(1, 4, small, small)}
        how = (5, self.scale.steps(steps), 7.0, "euler", "normal")
        drawn = stock.KSampler().sample(model, *how, positive, negative, latent, 1.0)[0]
        return stock.VAEDecode().decode(vae, drawn)[0].cpu()

    @contextmanager
    def as_card(self, total: float | None, state: str | None) -> Iterator[None]:
        """Be a smaller card, in one of ComfyUI's VRAM states, with no model on it.

        Args:
            total: bytes free; None is all.
            state: a name of ComfyUI's VRAMState, None for its own choice.
        """
        import comfy.model_management as mm

        with ExitStack() as stack:
            self.forget()
            stack.callback(self.forget)
            stack.enter_context(self.card.of(total))
            if state is not None:
                stack.enter_context(mock.patch.object(mm, "vram_state", mm.VRAMState[state]))
            yield


def distance(one: Any, other: Any) -> float:
    """Return how far a style's trained numbers are from another's, as a share of their size."""
    pairs = list(_pairs(one, other))
    apart = sum(float((a - b).square().sum()) for a, b in pairs)
    size = sum(float(a.square().sum()) for a, _ in pairs)
    return (apart / size) ** 0.5


def _pairs(one: Any, other: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for name, tensor in one.abstract.items():
        yield tensor.double(), other.abstract[name].double()
    for block, state in one.concrete.items():
        for name, tensor in state.items():
            yield tensor.double(), other.concrete[block][name].double()


def apart(one: Tensor, other: Tensor) -> dict[str, float]:
    """Return how far two pictures are apart, in levels of 255."""
    difference = 255 * (one.double() - other.double()).abs()
    return {"mean": round(float(difference.mean()), 4), "most": round(float(difference.max()), 4)}
