"""What trainings take of a real card, beside what was counted on a simulated one."""

import json
import math
from pathlib import Path
from typing import Any

import torch

from .card import GIB
from .models import Place
from .rows import Result, Row

COUNTED = Path(__file__).resolve().parents[2] / "results" / "memory.json"
STEPS = 3


def rows(place: Place, cases: list[dict[str, Any]], seconds: int) -> list[Row]:
    """Return a row for each case: weights and checkpointing and, if not a whole card, total, state.

    Args:
        place: the models.
        cases: as in ``evaluation/performance/memory.py``.
        seconds: that each may take.
    """
    return [
        Row(
            _name(place.family, case),
            seconds,
            lambda case=case: training_memory(place, case),
            ("finished", "losses finite", *(["within the card"] if "total" in case else [])),
        )
        for case in cases
    ]


def training_memory(place: Place, case: dict[str, Any]) -> Result:
    """Train a few steps as the node does; return GiB on the card, and the simulated card's."""
    with place.as_card(case.get("total"), case.get("state")):
        before = place.card.allocated()
        sockets = place.load(case["weights"])
        figures = _train(place, sockets, case["checkpointing"], before)
        figures["beside torch, GiB"] = _gib(place.card.beside_torch())
    counted = _counted(place.family, case)
    result = figures | {"counted, GiB": counted, "checkpointing": case["checkpointing"]}
    if counted:
        result["measured / counted"] = round(figures["peak, GiB"] / counted, 2)
    if "total" in case:
        result["within the card"] = figures["torch held at most, GiB"] <= case["total"] / GIB
    return result


def _train(place: Place, sockets: Any, checkpointing: str, before: int) -> Result:
    import comfy.model_management as mm
    from acfun_pack.acfun_ops.training.config import TrainConfig
    from acfun_pack.acfun_ops.training.events import StepEvent, TrainPictures
    from acfun_pack.acfun_ops.training.fit import fit
    from acfun_pack.nodes.comfyui.backbone import training_backbone
    from acfun_pack.nodes.comfyui.memory import plan_memory

    card = place.card
    peaks, losses, others, texts = [], [], [], []
    trained = (sockets[0].model, sockets[1].cond_stage_model)

    def note(event: Any) -> bool:
        if isinstance(event, StepEvent):
            losses.append(event.loss)
            peaks.append(card.peak())
            loaded = [m for m in mm.current_loaded_models if m.device.type == "cuda"]
            idle = [m for m in loaded if m.model is not None and m.model.model not in trained]
            others.append(sum(m.model_loaded_memory() for m in idle))
            card.restart()
        elif hasattr(event, "text"):
            texts.append(event.text)
        return False

    style, face = place.pictures()
    config = TrainConfig(
        steps=STEPS,
        preview_every=0,
        resolution=place.side,
        gradient_checkpointing=checkpointing,
    )
    with torch.inference_mode(), training_backbone(*sockets, None) as backbone:
        config, plan = plan_memory(backbone, config)
        backbone.load()
        weights = card.allocated() - before
        card.restart()
        pictures = TrainPictures(style=style, face=face)
        result = fit(backbone, pictures, config, note)
        dtype = str(backbone.compute_dtype)
    if not peaks:  # It ended before the first step did.
        peaks, others = [card.peak()], [0]
    own = [peak - other - before for peak, other in zip(peaks, others, strict=True)]
    return {
        "finished": result.outcome == "finished",
        "losses finite": bool(losses) and all(map(math.isfinite, losses)),
        "computed in": dtype.removeprefix("torch."),
        "weights on the card, GiB": _gib(weights),
        "peak, GiB": _gib(max(own, default=0)),
        "plain step, peak, GiB": _gib(own[-1] if own else 0),
        "with idle models, GiB": _gib(max(peaks, default=0)),
        "torch held at most, GiB": _gib(card.peak_reserved()),
        "the node said": [plan, *texts],
        "message": result.message,
    }


def _counted(family: str, case: dict[str, Any]) -> float | None:
    table = json.loads(COUNTED.read_text(encoding="utf-8"))
    wanted = {"comfyui": "0.33.0", "family": family, **case}
    for row in table:
        same = all(row.get(key) == value for key, value in wanted.items())
        if same and row.keys() & {"total", "state"} == wanted.keys() & {"total", "state"}:
            return float(row["peak"])
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
