"""The pack's real training on full-size SD1.5 and SDXL, on a simulated card.

VAE and CLIP vision are stand-ins: they are displaced by the U-Net before the first step.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import torch
from simulated_card import CARD, CPU, GIB, SimulatedCard, simulated_card
from tiny_models import SD1_UNET, SDXL_UNET
from torch import Tensor, nn

FULL_UNETS = {
    "sd1": SD1_UNET
    | {
        "num_res_blocks": [2] * 4,
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1] * 6 + [0] * 2,
        "transformer_depth_output": [1] * 9 + [0] * 3,
    },
    "sdxl": SDXL_UNET
    | {
        "channel_mult": [1, 2, 4],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
    },
}
REDRAWING_STEPS = 2  # Each needs what the others need.
NATIVE_SIDES = {"sd1": 512, "sdxl": 1024}
FLOATS = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.float8_e4m3fn,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is trained and how; sizes in pixels and bytes."""

    family: str = "sd1"
    weights: str = "fp16"
    text_weights: str = "fp16"
    precision: str = "auto"
    checkpointing: str = "off"
    side: int = 0
    total: float = 80 * GIB
    state: str = "NORMAL_VRAM"
    steps: int = 2
    alignment: str = "drawn"


@dataclass(frozen=True)
class StepFigures:
    """One step on the card: bytes saved for backward, bytes at most, waits, copies each way."""

    saved: int
    peak: int
    syncs: int
    onto: int
    off: int


@dataclass(frozen=True)
class Figures:
    """A training: weights before it, the peak before its first step, steps, what is left behind."""

    weights: int
    redrawing: int
    steps: list[StepFigures]
    outcome: str
    texts: list[str]
    gradients: list[str]
    asking: int

    @property
    def peak(self) -> int:
        """Return the bytes on the card at most, weights included."""
        return max(self.redrawing, *(step.peak for step in self.steps))

    @property
    def saved(self) -> int:
        """Return the most bytes that a step saves for backward."""
        return max(step.saved for step in self.steps)


def models(settings: Settings) -> dict[str, Any]:
    """Return MODEL, CLIP, VAE and CLIP_VISION as ComfyUI's loaders leave them, without values."""
    kind = {"sd1": "SD15", "sdxl": "SDXL"}[settings.family]
    config = getattr(comfy.supported_models, kind)(dict(FULL_UNETS[settings.family]))
    dtype = FLOATS[settings.weights]
    config.set_inference_dtype(dtype, torch.float16 if dtype.itemsize == 1 else None)
    options = {"load_device": CARD, "offload_device": CPU, "dtype": FLOATS[settings.text_weights]}
    with torch.inference_mode():
        network = config.get_model({}, device=CPU)
        model = comfy.model_patcher.ModelPatcher(network, load_device=CARD, offload_device=CPU)
        clip = comfy.sd.CLIP(config.clip_target({}), model_options=options)
    return {"model": model, "clip": clip, "vae": _vae(), "clip_vision": _clip_vision()}


@contextmanager
def simulation(settings: Settings) -> Any:
    """Yield the card and the models on it."""
    with simulated_card(settings.total, settings.state) as card:
        yield card, models(settings)


def train(settings: Settings, card: SimulatedCard, sockets: dict[str, Any]) -> Figures:
    """Train and count."""
    import acfun_pack.acfun_ops.training.training_images as encoded_pair
    from acfun_pack.acfun_ops.method.alignment_loss import SETTINGS
    from acfun_pack.acfun_ops.training.config import TrainConfig
    from acfun_pack.acfun_ops.training.events import SamplingEvent, StepEvent, TrainImages
    from acfun_pack.acfun_ops.training.fit import fit
    from acfun_pack.nodes.comfyui.backbone import ComfyBackbone
    from acfun_pack.nodes.comfyui.memory import plan_memory
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    side = settings.side or NATIVE_SIDES[settings.family]
    steps: list[StepFigures] = []
    texts: list[str] = []
    redrawings = [0]

    def note(event: Any) -> bool:
        if isinstance(event, StepEvent):
            saved = sum(card.saved.values())
            copies = card.copies
            steps.append(StepFigures(saved, card.peak, card.syncs, copies["onto"], copies["off"]))
            card.restart()
        elif isinstance(event, SamplingEvent):
            redrawings.append(card.peak)
            card.restart()
        else:
            texts.append(event.text)
        return False

    config = TrainConfig(
        steps=settings.steps,
        preview_every=0,
        resolution=side,
        gradient_checkpointing=settings.checkpointing,
        alignment=settings.alignment,
    )
    method = replace(SETTINGS, redrawing=replace(SETTINGS.redrawing, steps=REDRAWING_STEPS))
    pictures = TrainImages(style=torch.rand(1, side, side, 3), face=torch.rand(1, side, side, 3))
    dtype = FLOATS.get(settings.precision)
    with (
        torch.inference_mode(),
        patch.object(encoded_pair, "image_hash", lambda picture: "0" * 64),
        # They look at numbers, which the simulated card has none of.
        patch.object(encoded_pair, "pair_warnings", lambda *images: []),
        patch.object(encoded_pair, "image_warnings", lambda *images: []),
        patch.object(ComfyBackbone, "fingerprint", "0" * 64),
        training_backbone(**sockets, dtype=dtype) as backbone,
    ):
        config, plan = plan_memory(backbone, config)
        texts.append(plan)
        backbone.load()
        weights = card.live
        card.restart()
        result = fit(
            backbone, encoded_pair.prepare_images(backbone, pictures, config, method), config, note
        )
    unet, encoder = sockets["model"].model, sockets["clip"].cond_stage_model
    named = [*unet.named_parameters(), *encoder.named_parameters()]
    return Figures(
        weights=weights,
        redrawing=max(redrawings),
        steps=steps,
        outcome=result.outcome,
        texts=texts,
        gradients=[name for name, weight in named if weight.grad is not None],
        asking=sum(weight.requires_grad for _, weight in named),
    )


def _vae() -> Any:
    def encode(pictures: Tensor) -> Tensor:
        batch, height, width, _ = pictures.shape
        return torch.empty(batch, 4, height // 8, width // 8)

    return SimpleNamespace(first_stage_model=nn.Module(), encode=encode)


def _clip_vision() -> Any:
    def encode_image(pictures: Tensor) -> dict[str, Tensor]:
        return {"penultimate_hidden_states": torch.empty(len(pictures), 257, 1024)}

    return SimpleNamespace(model=nn.Module(), encode_image=encode_image)
