"""What a training will need of the card, decided before its first step."""

from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management as mm

from ...acfun_ops.messages import Message
from ...acfun_ops.model_families import FAMILIES
from ...acfun_ops.training.config import TrainConfig

GIB = 2**30


@dataclass(frozen=True)
class Need:
    """What a step takes beside the weights, GiB, from ``evaluation/results/memory.json``.

    fixed: trainables, optimiser and text encoder. latent: per latent of ``side`` pixels in half
    precision, for the pair.
    """

    side: int
    fixed: float
    latent: float

    def bytes_at(self, side: int, itemsize: int) -> float:
        """Return bytes for a training side in pixels and a computing dtype's size in bytes."""
        return GIB * (self.fixed + self.latent * (side / self.side) ** 2 * itemsize / 2)


_SD = {"off": Need(512, 0.6, 1.5), "on": Need(512, 0.2, 0.2)}
_XL = {"off": Need(1024, 3.4, 10.3), "on": Need(1024, 0.4, 1.1)}
_NEEDS = {"sd1": _SD, "sd2": _SD, "sdxl": _XL}


def plan_memory(backbone: Any, config: TrainConfig) -> tuple[TrainConfig, str]:
    """Decide on checkpointing and set what the card keeps free of weights (``reserve``).

    Drivers on Windows spill into main memory instead of raising, so waiting for an error is too
    late there. Weights that are computed in another dtype than they are stored in are cast at each
    use, and without checkpointing autograd would keep every cast one.

    Args:
        backbone: a ComfyBackbone that has not loaded yet.
        config: as the user chose it; "auto" leaves the choice to the plan.

    Returns:
        The config, and one sentence for the node; no sentence and nothing decided without a card.
    """
    if mm.is_device_cpu(backbone.device):
        return config, ""
    side = config.resolution or backbone.native_side
    itemsize = backbone.compute_dtype.itemsize
    needs = _NEEDS.get(backbone.family, _XL)
    need = {option: needs[option].bytes_at(side, itemsize) for option in ("off", "on")}
    is_cast = backbone.compute_dtype != backbone.unet.dtype
    if is_cast:
        # Autograd keeps each weight as it was cast, until its block is done.
        need["off"] += itemsize * sum(weight.numel() for weight in backbone.unet.parameters())
    weights = _weights(backbone)
    room = _room(backbone.device)
    option = config.gradient_checkpointing
    if option == "auto":
        option = "on" if is_cast or weights + need["off"] > room else "off"
    backbone.reserve = need[option]
    outside = weights if mm.vram_state == mm.VRAMState.NO_VRAM else weights + need[option] - room
    outside = min(max(outside, 0.0), weights)
    total = (weights + need[option] - outside) / GIB
    sentence = Message(
        "{model} at {side}: about {total:.1f} GB, checkpointing {option}",
        model=FAMILIES[backbone.family].name or "This model",
        side=side,
        total=total,
        option=option,
    )
    if outside > GIB / 20:
        sentence = Message(
            "{plan}, {outside:.1f} GB of weights in main memory (slower)",
            plan=sentence,
            outside=outside / GIB,
        )
    # "auto" stays where the plan sees no need, so that fit may still turn it on.
    return (replace(config, gradient_checkpointing="on") if option == "on" else config), sentence


def _weights(backbone: Any) -> float:
    patchers = (backbone.patcher, backbone.clip.patcher)
    return sum(p.model_size() for p in patchers if p.load_device == backbone.device)


def _room(device: Any) -> float:
    """Return what is free once ComfyUI has displaced all other models."""
    # An entry without a model is one whose clones all died at once; ComfyUI cannot displace it.
    loaded = [m for m in mm.current_loaded_models if m.device == device and m.model is not None]
    held = sum(m.model_loaded_memory() for m in loaded)
    free: float = mm.get_free_memory(device) + held - mm.extra_reserved_memory()
    return free
