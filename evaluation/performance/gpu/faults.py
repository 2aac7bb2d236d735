"""Faults of a real card: its memory runs out, or the user cancels, in the middle of a training."""

import gc
import math
from collections.abc import Callable
from typing import Any

import torch

from .card import GIB
from .models import Place, distance
from .rows import Result, Row

# Of the readings that call the U-Net once a step and nowhere else.
READING = "staged"
FAILING_STEP = 4
STEPS = 6
WORDS = f"Out of memory in the step after {FAILING_STEP - 1} of {STEPS}."
# Room beside what stands on the card: for a step with checkpointing, and for none.
SOME, NONE = 1.2 * GIB, 0.02 * GIB


def rows(place: Place) -> list[Row]:
    """Return the rows of faults."""
    full = (
        "a real error",
        "last good style kept",
        "in our words",
        "memory freed",
        "next one works",
    )
    return [
        Row("out of memory for good", 30, lambda: out_of_memory(place), full),
        Row(
            "out of memory without checkpointing",
            25,
            lambda: less_memory(place),
            ("a real error", "checkpointing turned on", "finished"),
        ),
        Row(
            "cancelled, then resumed",
            30,
            lambda: cancelled(place),
            ("cancelled", "kept", "resumed to its end"),
        ),
    ]


def deterministic_rows(place: Place) -> list[Row]:
    """Return the row that ComfyUI's ``--deterministic`` promises more of."""
    goals = ("cancelled", "kept", "resumed to its end", "resumed to the same bytes")
    name = "--deterministic: cancelled, then resumed"
    return [Row(name, 30, lambda: cancelled(place), goals)]


def out_of_memory(place: Place) -> Result:
    """Fill the card in step 4; look at what is left, and train again."""
    place.train(steps=1, seed=50)  # What stays on the card between trainings is there then.
    before = _standing(place)
    model, errors = starved(place, NONE, calls=2)
    said = ""
    try:
        place.train(model=model, alignment=READING, steps=STEPS, seed=50)
    except place.nodes.error as error:
        said = str(error)
    del model
    after = _standing(place)
    kept, _ = place.nodes.kept_style()
    place.card.unlimit()
    style, losses = place.train(alignment=READING, steps=STEPS, seed=51)
    return {
        "a real error": bool(errors),
        "torch said": errors[:1],
        "ours": said,
        "in our words": said.startswith(WORDS),
        "last good style kept": kept.facts.steps == FAILING_STEP - 1,
        "allocated before and after, MB": [round(before / 1e6, 1), round(after / 1e6, 1)],
        "memory freed": after - before < 64e6,
        "next one works": style.facts.steps == len(losses) == STEPS and _finite(losses),
    }


def less_memory(place: Place) -> Result:
    """Leave room for a checkpointed step alone, in step 4."""
    model, errors = starved(place, SOME, calls=1)
    style, losses = place.train(model=model, alignment=READING, steps=STEPS, seed=52)
    texts = list(place.nodes.texts)
    place.card.unlimit()
    plain, plain_losses = place.train(alignment=READING, steps=STEPS, seed=52)
    return {
        "a real error": bool(errors),
        "torch said": errors[:1],
        "the node said": texts,
        "checkpointing turned on": "Out of memory: gradient checkpointing is now on." in texts,
        "finished": len(losses) == STEPS and _finite(losses),
        "last loss, and of a run with room": [losses[-1], plain_losses[-1]],
        "distance from a run with room": distance(style, plain),
    }


def cancelled(place: Place) -> Result:
    """Press Cancel in step 4; resume to the end, and compare with a run that nobody cancelled."""
    from comfy.model_management import InterruptProcessingException
    from faulty_models import cancel, faulty

    was_cancelled = False
    with faulty(place.sockets[0], cancel, calls=(FAILING_STEP,)):
        try:
            place.train(alignment=READING, steps=STEPS, seed=53)
        except InterruptProcessingException:
            was_cancelled = True
    texts = list(place.nodes.texts)
    kept, _ = place.nodes.kept_style()
    resumed, losses = place.train(alignment=READING, steps=STEPS, seed=53, resume_from=kept)
    whole, _ = place.train(alignment=READING, steps=STEPS, seed=53)
    return {
        "cancelled": was_cancelled,
        "the node said": texts,
        "kept": 1 <= kept.facts.steps < STEPS,
        "kept steps": kept.facts.steps,
        "resumed to its end": resumed.facts.steps == len(losses) == STEPS and _finite(losses),
        "resumed to the same bytes": _bytes(place, resumed) == _bytes(place, whole),
        "distance of resumed from whole": distance(resumed, whole),
        "distance of kept from whole": distance(kept, whole),
    }


def starved(place: Place, room: float, calls: int) -> tuple[Any, list[str]]:
    """Return a MODEL which, from the U-Net's fourth call on, finds only ``room`` bytes free.

    The card's limit is lowered, and torch raises by itself. Without a card, so many ``calls`` fail
    as torch would. The list collects what was raised.
    """
    from comfy.patcher_extension import WrappersMP

    count, errors = 0, []

    def wrapper(executor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        try:
            if count == FAILING_STEP:
                place.card.clear()
                place.card.limit_to(place.card.reserved() + room)
            if not place.card.is_there and FAILING_STEP <= count < FAILING_STEP + calls:
                raise torch.OutOfMemoryError("CUDA out of memory, as on a card.")
            return executor(*args, **kwargs)
        except torch.OutOfMemoryError as error:
            errors.append(str(error).split("If reserved")[0])
            raise

    clone = place.sockets[0].clone()
    clone.add_wrapper(WrappersMP.APPLY_MODEL, wrapper)
    return clone, errors


def _standing(place: Place) -> int:
    gc.collect()
    place.card.clear()
    return place.card.allocated()


def _bytes(place: Place, style: Any) -> bytes:
    return place.nodes.bytes_of(style)


def _finite(losses: list[float]) -> bool:
    return all(map(math.isfinite, losses))
