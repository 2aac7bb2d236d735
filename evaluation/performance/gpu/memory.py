"""GPU memory of training runs, next to what was counted on a simulated GPU."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...comfyui_host import load
from .device import GIB
from .models import Models
from .rows import Result, row

COUNTED = Path(__file__).resolve().parents[2] / "results" / "memory.json"
STEPS = 3
ON, OFF = ({"weights": "fp16", "checkpointing": value} for value in ("on", "off"))
# As in evaluation/performance/memory.py, the most important first.
CASES: dict[str, list[dict[str, Any]]] = {
    "sd1": [OFF, ON, ON | {"total": 3.4 * GIB}, ON | {"state": "NO_VRAM"}],
    "sdxl": [ON, OFF, ON | {"total": 7.2 * GIB}],
}


def measure_memory(case: dict[str, Any], models: Models) -> Result:
    """Train a few steps as the node does; return GiB on the GPU, and on the simulated one."""
    with models.simulate_gpu(case.get("total"), case.get("state")):
        before = models.gpu.count("memory_allocated")
        sockets = models.load(case["weights"])
        figures = _train(models, sockets, case["checkpointing"], before)
        figures["beside torch, GiB"] = _gib(models.gpu.other_bytes())
    counted = find_count(models.family, case)
    result = figures | {"counted, GiB": counted, "checkpointing": case["checkpointing"]}
    if counted:
        result["measured / counted"] = round(figures["peak, GiB"] / counted, 2)
    if "total" in case:
        result["within the card"] = figures["torch held at most, GiB"] <= case["total"] / GIB
    return result


def _train(models: Models, sockets: Any, checkpointing: str, before: int) -> Result:
    mm, backbones = load("comfy.model_management"), load("acfun_pack.nodes.comfyui.training_models")
    events = load("acfun_pack.acfun_ops.training.events")
    gpu = models.gpu
    peaks: list[int] = []
    losses: list[float] = []
    others: list[int] = []
    texts: list[str] = []
    trained = (sockets[0].model, sockets[1].cond_stage_model)

    def on_event(event: Any) -> bool:
        if isinstance(event, events.StepEvent):
            losses.append(event.loss)
            peaks.append(gpu.count("max_memory_allocated"))
            loaded = [m for m in mm.current_loaded_models if m.device.type == "cuda"]
            idle = [m for m in loaded if m.model is not None and m.model.model not in trained]
            others.append(sum(m.model_loaded_memory() for m in idle))
            gpu.reset_peak()
        elif hasattr(event, "text"):
            texts.append(event.text)
        return False

    style, face = models.images()
    config = load("acfun_pack.acfun_ops.training.config").TrainConfig(
        steps=STEPS,
        preview_every=0,
        resolution=models.side,
        gradient_checkpointing=checkpointing,
    )
    with torch.inference_mode(), backbones.training_backbone(*sockets, None) as backbone:
        config, plan = load("acfun_pack.nodes.comfyui.memory").plan_memory(backbone, config)
        backbone.load()
        weights = gpu.count("memory_allocated") - before
        gpu.reset_peak()
        images = events.TrainImages(style=style, face=face)
        fit = load("acfun_pack.acfun_ops.training.fit").fit
        result = fit(backbone, images, config, on_event)
        dtype = str(backbone.compute_dtype)
    if not peaks:  # It ended before the first step did.
        peaks, others = [gpu.count("max_memory_allocated")], [0]
    own = [peak - other - before for peak, other in zip(peaks, others, strict=True)]
    return {
        "finished": result.outcome == "finished",
        "losses finite": bool(losses) and all(map(math.isfinite, losses)),
        "computed in": dtype.removeprefix("torch."),
        "weights on the card, GiB": _gib(weights),
        "peak, GiB": _gib(max(own)),
        "plain step, peak, GiB": _gib(own[-1]),
        "with idle models, GiB": _gib(max(peaks)),
        "torch held at most, GiB": _gib(gpu.count("max_memory_reserved")),
        "loss scale at the end": result.state.scaler.get("scale") if result.state else None,
        "the node said": [plan, *texts],
        "message": result.message,
    }


def find_count(family: str, case: dict[str, Any]) -> float | None:
    """Return the peak that was counted for a case on the simulated GPU, in GiB."""
    wanted = {"comfyui": "0.33.0", "family": family, **case}
    for entry in json.loads(COUNTED.read_text(encoding="utf-8")):
        same = all(entry.get(key) == value for key, value in wanted.items())
        if same and entry.keys() & {"total", "state"} == wanted.keys() & {"total", "state"}:
            return float(entry["peak"])
    return None


def _name(family: str, case: dict[str, Any]) -> str:
    parts = [f"memory {family} {case['weights']}, checkpointing {case['checkpointing']}"]
    if "total" in case:
        parts.append(f"{case['total'] / GIB:g} GiB free")
    if "state" in case:
        parts.append(case["state"])
    return ", ".join(parts)


def _gib(size: float) -> float:
    return round(size / GIB, 2)


for _family, _cases in CASES.items():
    for _case in [*_cases, *(ON | {"weights": weights} for weights in ("fp8", "bf16"))]:
        _goals = ("finished", "losses finite", *(["within the card"] if "total" in _case else []))
        row(_family, _name(_family, _case), *_goals)(partial(measure_memory, _case))
