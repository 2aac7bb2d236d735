"""MODELs that misbehave once, on a certain call of the U-Net: faults as a user's machine has them.

ComfyUI's own wrappers do it, so a training meets the fault where it would meet a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

Effect = Callable[[Tensor], Tensor]


def faulty(model: Any, effect: Effect, calls: Sequence[int]) -> Any:
    """Return a MODEL whose result passes through `effect` on some calls, counted from 1."""
    count = 0

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        nonlocal count
        count += 1
        denoised = executor(*args, **kwargs)
        return effect(denoised) if count in calls else denoised

    clone = model.clone()
    clone.add_wrapper(WrappersMP.APPLY_MODEL, wrapper)
    return clone


def not_a_number(denoised: Tensor) -> Tensor:
    """Return NaN, as an overflow in half precision gives."""
    return denoised * float("nan")


def cancel(denoised: Tensor) -> Tensor:
    """Press Cancel: what the server does on /interrupt."""
    comfy.model_management.interrupt_current_processing()
    return denoised


def fail(denoised: Tensor) -> Tensor:
    """Fail as a bug in another pack does."""
    raise KeyError("from a test")


def run_out_of_memory(denoised: Tensor) -> Tensor:
    """Fail as torch does when the GPU is full."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
