"""Faults of a real GPU: its memory runs out, or the user cancels, during a training run."""

import gc
import math
from collections.abc import Callable
from typing import Any

import torch

from ...comfyui_host import load
from .device import GIB
from .models import Models, style_distance
from .rows import Result, row

# A loss variant that calls the U-Net once a step and nowhere else.
VARIANT = "staged"
FAILING_STEP = 4
STEPS = 6
MESSAGE = f"Out of memory in the step after {FAILING_STEP - 1} of {STEPS}."
# Free memory in the failing step: enough for a step with checkpointing, and for none.
SOME, NONE = 1.2 * GIB, 0.02 * GIB
CANCEL_GOALS = ("cancelled", "kept", "resumed to its end")


@row(
    *("sd1", "out of memory for good", "a real error", "last good style kept"),
    *("in our words", "memory freed", "next one works"),
)
def exhaust_memory(models: Models) -> Result:
    """Fill the GPU in step 4; look at what is left, and train again."""
    models.train(steps=1, seed=50)  # Brings what stays on the GPU between runs.
    before = _tensor_bytes(models)
    model, errors = limit_memory(models, NONE, calls=2)
    text = ""
    try:
        models.train(model=model, alignment=VARIANT, steps=STEPS, seed=50)
    except models.nodes.error as error:
        text = str(error)
    del model
    after = _tensor_bytes(models)
    saved, _ = models.nodes.kept_style()
    models.gpu.limit_to(None)
    style, losses = models.train(alignment=VARIANT, steps=STEPS, seed=51)
    return {
        "a real error": bool(errors),
        "torch said": errors[:1],
        "ours": text,
        "in our words": text.startswith(MESSAGE),
        "last good style kept": saved.facts.steps == FAILING_STEP - 1,
        "allocated before and after, MB": [round(before / 1e6, 1), round(after / 1e6, 1)],
        "memory freed": after - before < 64e6,
        "next one works": style.facts.steps == len(losses) == STEPS and _are_finite(losses),
    }


@row(
    *("sd1", "out of memory without checkpointing"),
    *("a real error", "checkpointing turned on", "finished"),
)
def require_checkpointing(models: Models) -> Result:
    """Leave memory for a checkpointed step only, in step 4."""
    model, errors = limit_memory(models, SOME, calls=1)
    style, losses = models.train(model=model, alignment=VARIANT, steps=STEPS, seed=52)
    texts = list(models.nodes.texts)
    models.gpu.limit_to(None)
    plain, plain_losses = models.train(alignment=VARIANT, steps=STEPS, seed=52)
    return {
        "a real error": bool(errors),
        "torch said": errors[:1],
        "the node said": texts,
        "checkpointing turned on": "Out of memory: gradient checkpointing is now on." in texts,
        "finished": len(losses) == STEPS and _are_finite(losses),
        "last loss, and of a run with room": [losses[-1], plain_losses[-1]],
        "distance from a run with room": style_distance(style, plain),
    }


@row("sd1", "cancelled, then resumed", *CANCEL_GOALS)
@row(
    *("deterministic", "--deterministic: cancelled, then resumed"),
    *(*CANCEL_GOALS, "resumed to the same bytes"),
)
def cancel_and_resume(models: Models) -> Result:
    """Press Cancel in step 4, resume to the end, and compare with an uninterrupted run."""
    effects = load("faulty_models")
    is_cancelled = False
    with effects.faulty(models.sockets[0], effects.cancel, calls=(FAILING_STEP,)):
        try:
            models.train(alignment=VARIANT, steps=STEPS, seed=53)
        except load("comfy.model_management").InterruptProcessingException:
            is_cancelled = True
    texts = list(models.nodes.texts)
    saved, _ = models.nodes.kept_style()
    resumed, losses = models.train(alignment=VARIANT, steps=STEPS, seed=53, resume_from=saved)
    plain, _ = models.train(alignment=VARIANT, steps=STEPS, seed=53)
    contents = [models.nodes.bytes_of(style) for style in (resumed, plain)]
    return {
        "cancelled": is_cancelled,
        "the node said": texts,
        "kept": 1 <= saved.facts.steps < STEPS,
        "kept steps": saved.facts.steps,
        "resumed to its end": resumed.facts.steps == len(losses) == STEPS and _are_finite(losses),
        "resumed to the same bytes": contents[0] == contents[1],
        "distance of resumed from whole": style_distance(resumed, plain),
        "distance of kept from whole": style_distance(saved, plain),
    }


def limit_memory(models: Models, free: float, calls: int) -> tuple[Any, list[str]]:
    """Return a MODEL whose U-Net, from its fourth call on, finds only ``free`` bytes.

    The memory limit of torch is lowered, and torch raises by itself. Without a GPU, so many
    ``calls`` fail as torch would. The list collects the errors.
    """
    count = 0
    errors: list[str] = []

    def wrapper(executor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        try:
            if count == FAILING_STEP:
                models.gpu.clear()
                models.gpu.limit_to(models.gpu.count("memory_reserved") + free)
            if not models.gpu.is_there and FAILING_STEP <= count < FAILING_STEP + calls:
                raise torch.OutOfMemoryError("CUDA out of memory, as on a GPU.")
            return executor(*args, **kwargs)
        except torch.OutOfMemoryError as error:
            errors.append(str(error).split("If reserved")[0])
            raise

    clone = models.sockets[0].clone()
    clone.add_wrapper(load("comfy.patcher_extension").WrappersMP.APPLY_MODEL, wrapper)
    return clone, errors


def _tensor_bytes(models: Models) -> int:
    gc.collect()
    models.gpu.clear()
    return models.gpu.count("memory_allocated")


def _are_finite(losses: list[float]) -> bool:
    return all(map(math.isfinite, losses))
