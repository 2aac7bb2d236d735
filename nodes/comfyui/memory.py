"""What a training will need of the card, decided before its first step."""

import math
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management as mm

from ...acfun_ops.messages import Message
from ...acfun_ops.model_families import FAMILIES
from ...acfun_ops.training.config import TrainConfig

GIB = 2**30


@dataclass(frozen=True)
class Need:
    """What a step takes beside the weights, GiB, from what ``evaluation/results`` has of memory.

    fixed: trainables, optimiser, text encoder, and a transformer's largest block as it is cast.
    latent: per latent of ``side`` pixels in half precision, for the pair. channels: of all adapters
    of the model that was counted, with which both grow; 0 if a family has one size.
    """

    side: int
    fixed: float
    latent: float
    channels: int = 0

    def bytes_at(self, side: int, itemsize: int, channels: int) -> float:
        """Return bytes for a training side in pixels, a dtype's size, and adapters' channels."""
        scale = channels / self.channels if self.channels else 1.0
        return GIB * scale * (self.fixed + self.latent * (side / self.side) ** 2 * itemsize / 2)


_SD = {"off": Need(512, 0.6, 1.5), "on": Need(512, 0.2, 0.2)}
_XL = {"off": Need(1024, 3.4, 10.3), "on": Need(1024, 0.4, 1.1)}
_NEEDS = {
    "sd1": _SD,
    "sd2": _SD,
    "zimage": {"off": Need(1024, 1.2, 44.9), "on": Need(1024, 1.4, 4.1)},
    "flux2": {"off": Need(1024, 3.6, 25.4, 76800), "on": Need(1024, 1.0, 3.4, 76800)},
    "flux": {"off": Need(1024, 3.1, 42.5), "on": Need(1024, 0.9, 4.1)},
    "sd3": {"off": Need(1024, 1.0, 11.5, 36864), "on": Need(1024, 0.4, 1.2, 36864)},
    "lumina2": {"off": Need(1024, 0.8, 26.2), "on": Need(1024, 0.8, 2.7)},
    "anima": {"off": Need(1024, 0.8, 17.5), "on": Need(1024, 0.4, 1.8)},
    "chroma": {"off": Need(1024, 3.1, 42.5), "on": Need(1024, 0.9, 4.1)},
    "qwen_image": {"off": Need(1024, 1.1, 42.5), "on": Need(1024, 1.0, 3.7)},
}


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
    channels = sum(point.channels for point in backbone.insert_points(config.insert_at).values())
    need = {option: needs[option].bytes_at(side, itemsize, channels) for option in needs}
    network = backbone.network.module
    cast = itemsize * sum(math.prod(weight.shape) for weight in network.parameters())
    # Quantised weights, as GGUF's, are smaller than the dtype that they give.
    is_quantised = backbone.patcher.model_size() < 0.9 * cast
    is_cast = is_quantised or backbone.compute_dtype != network.dtype
    if is_cast:
        # Autograd keeps each weight as it was cast, until its block is done.
        need["off"] += cast
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
    patchers = [backbone.patcher]
    if not FAMILIES[backbone.family].learns_offsets:  # Else it is needed once, before the steps.
        patchers.append(backbone.clip.patcher)
    return sum(p.model_size() for p in patchers if p.load_device == backbone.device)


def _room(device: Any) -> float:
    """Return what is free once ComfyUI has displaced all other models."""
    # An entry without a model is one whose clones all died at once; ComfyUI cannot displace it.
    loaded = [m for m in mm.current_loaded_models if m.device == device and m.model is not None]
    held = sum(m.model_loaded_memory() for m in loaded)
    free: float = mm.get_free_memory(device) + held - mm.extra_reserved_memory()
    return free
