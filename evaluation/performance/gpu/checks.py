"""What is measured on a family's models: figures by name, of which no yes or no may be a no."""

import gc
import json
import math
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ...comfyui_host import load
from ..loaded import Loaded
from ..memory import NEWEST, cases
from ..memory import RESULTS as COUNTED
from ..speed import sampling_figures, training_figures
from .device import GIB
from .models import SMALL_STEPS, Models

Figures = dict[str, Any]
# A loss variant that calls the U-Net once a step and nowhere else.
VARIANT = "staged"
FAILING_STEP = 4
STEPS = 6
MESSAGE = f"Out of memory in the step after {FAILING_STEP - 1} of {STEPS}."
# Free memory in the failing step: enough for a step with checkpointing, and for none.
SOME, NONE = 1.2 * GIB, 0.02 * GIB
# What makes a case of memory.
KEYS = ("family", "weights", "checkpointing", "total", "state")
MEMORY_STEPS, SAMPLING_STEPS = 3, 10


def memory_rows(family: str) -> dict[str, Callable[[Models], Figures]]:
    """Return a row for each case that ``evaluation/performance/memory.py`` counts."""
    rows: dict[str, Callable[[Models], Figures]] = {}
    for case in cases(NEWEST, family):
        name = f"memory {family} {case['weights']}, checkpointing {case['checkpointing']}"
        name += f", {case['total'] / GIB:g} GiB free" if "total" in case else ""
        name += f", {case['state']}" if "state" in case else ""
        rows[name] = partial(measure_memory, case)
    return rows


def measure_memory(case: dict[str, Any], models: Models) -> Figures:
    """Train a few steps as the node does; return GiB on the GPU, and on the simulated one.

    Raises:
        RuntimeError: the training did not come to its end.
    """
    mm, events = load("comfy.model_management"), load("acfun_pack.acfun_ops.training.events")
    gpu, peaks = models.gpu, []
    style, face = models.images()
    config = load("acfun_pack.acfun_ops.training.config").TrainConfig(
        steps=MEMORY_STEPS,
        preview_every=0,
        resolution=models.side,
        gradient_checkpointing=case["checkpointing"],
    )
    with models.simulate_gpu(case.get("total"), case.get("state")):
        before = torch.cuda.memory_allocated()
        sockets = models.load(case["weights"])
        trained = (sockets[0].model, sockets[1].cond_stage_model)

        def listen(event: Any) -> bool:
            if isinstance(event, events.StepEvent):
                loaded = [m for m in mm.current_loaded_models if m.device.type == "cuda"]
                idle = [m for m in loaded if m.model is not None and m.model.model not in trained]
                others = sum(m.model_loaded_memory() for m in idle)
                peaks.append(torch.cuda.max_memory_allocated() - others - before)
                gpu.reset_peak()
            return False

        borrow = load("acfun_pack.nodes.comfyui.training_models").training_backbone
        with torch.inference_mode(), borrow(*sockets, None) as backbone:
            config, plan = load("acfun_pack.nodes.comfyui.memory").plan_memory(backbone, config)
            backbone.load()
            weights = torch.cuda.memory_allocated() - before
            gpu.reset_peak()
            images = events.TrainImages(style=style, face=face)
            fit = load("acfun_pack.acfun_ops.training.fit").fit
            result = fit(backbone, images, config, listen)
        held, others = torch.cuda.max_memory_reserved(), gpu.other_bytes()
    if result.outcome != "finished":
        raise RuntimeError(result.message)
    counted = next(
        row["peak"]
        for row in json.loads(COUNTED.read_text(encoding="utf-8"))
        if row["comfyui"] == NEWEST and all(row.get(key) == case.get(key) for key in KEYS)
    )
    return {
        "losses finite": _are_finite(result.losses),
        "weights on the card, GiB": _gib(weights),
        "peak, GiB": _gib(max(peaks)),
        "plain step, peak, GiB": _gib(peaks[-1]),
        "counted, GiB": counted,
        "measured / counted": round(max(peaks) / GIB / counted, 2),
        "torch held at most, GiB": _gib(held),
        "beside torch, GiB": _gib(others),
        "within the card": held <= case.get("total", math.inf),
        "the node said": plan,
    }


def exhaust_memory(models: Models) -> Figures:
    """Fill the GPU in step 4; look at what is left, and train again."""
    models.train(steps=1, seed=50)  # Brings what stays on the GPU between runs.
    before = _tensor_bytes()
    model, errors = limit_memory(models, NONE, calls=2)
    text = ""
    try:
        models.train(model=model, alignment=VARIANT, steps=STEPS, seed=50)
    except models.nodes.error as error:
        text = str(error)
    del model
    after = _tensor_bytes()
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


def require_checkpointing(models: Models) -> Figures:
    """Leave memory for a checkpointed step only, in step 4."""
    model, errors = limit_memory(models, SOME, calls=1)
    _, losses = models.train(model=model, alignment=VARIANT, steps=STEPS, seed=52)
    texts = list(models.nodes.texts)
    models.gpu.limit_to(None)
    _, plain_losses = models.train(alignment=VARIANT, steps=STEPS, seed=52)
    return {
        "a real error": bool(errors),
        "torch said": errors[:1],
        "the node said": texts,
        "checkpointing turned on": "Out of memory: gradient checkpointing is now on." in texts,
        "finished": len(losses) == STEPS and _are_finite(losses),
        "last loss, and of a run with room": [losses[-1], plain_losses[-1]],
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
                torch.cuda.empty_cache()
                models.gpu.limit_to(torch.cuda.memory_reserved() + free)
            if not models.gpu.is_there and FAILING_STEP <= count < FAILING_STEP + calls:
                raise torch.OutOfMemoryError("CUDA out of memory, as on a GPU.")
            return executor(*args, **kwargs)
        except torch.OutOfMemoryError as error:
            errors.append(str(error).split("If reserved")[0])
            raise

    clone = models.sockets[0].clone()
    clone.add_wrapper(load("comfy.patcher_extension").WrappersMP.APPLY_MODEL, wrapper)
    return clone, errors


def cancel_and_resume(models: Models) -> Figures:
    """Press Cancel in step 4, resume to the end, and compare with an uninterrupted run."""
    effects = load("faulty_models")
    is_cancelled = False
    with effects.faulty(models.sockets[0], effects.cancel, calls=(FAILING_STEP,)):
        try:
            models.train(alignment=VARIANT, steps=STEPS, seed=53)
        except load("comfy.model_management").InterruptProcessingException:
            is_cancelled = True
    saved, _ = models.nodes.kept_style()
    resumed, losses = models.train(alignment=VARIANT, steps=STEPS, seed=53, resume_from=saved)
    whole, _ = models.train(alignment=VARIANT, steps=STEPS, seed=53)
    own, other = map(models.nodes.bytes_of, (resumed, whole))
    return {
        "cancelled": is_cancelled,
        "kept": 1 <= saved.facts.steps < STEPS,
        "resumed to its end": resumed.facts.steps == len(losses) == STEPS and _are_finite(losses),
        "resumed to the same bytes": own == other,
    }


def compare_seeds(models: Models) -> Figures:
    """Train twice with one seed and once with another; compare the styles' bytes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        runs = [models.train(steps=STEPS, seed=seed) for seed in (61, 61, 62)]
    texts = {str(warning.message)[:160] for warning in caught}
    one, two, other = (models.nodes.bytes_of(style) for style, _ in runs)
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch warned": sorted(text for text in texts if "determin" in text),
        "same bytes": one == two,
        "another seed differs": one != other,
    }


def time_default_run(models: Models) -> Figures:
    """Train by the node with its defaults; return seconds, and whether all numbers are finite."""
    began = time.time()
    steps = SMALL_STEPS if models.is_small else 150
    style, losses = models.train(steps=steps, preview_every=50)
    seconds = time.time() - began
    states = [style.abstract, *style.concrete.values()]
    return {
        "seconds": round(seconds, 1),
        "steps": len(losses),
        "finite": _are_finite(losses)
        and all(bool(torch.isfinite(t).all()) for state in states for t in state.values()),
        "first and last loss": [round(losses[0], 4), round(losses[-1], 4)],
        "precision": style.facts.settings["precision"],
        "the node said": list(models.nodes.texts),
    }


def time_ratios(models: Models) -> Figures:
    """Return what ``evaluation/performance/speed.py`` measures."""
    loaded = Loaded(models, models.side, 3 if models.is_small else SAMPLING_STEPS)
    figures = training_figures(loaded) | sampling_figures(loaded)
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def _tensor_bytes() -> int:
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


def _are_finite(losses: list[float]) -> bool:
    return all(map(math.isfinite, losses))


def _gib(size: float) -> float:
    return round(size / GIB, 2)
