"""MODELs that misbehave once, on a certain call of the U-Net: faults as a user's machine has them.

A hook on the U-Net does it, so a training meets the fault where it would meet a real one, and the
MODEL is not patched: a training's name tells patched ones apart.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

Effect = Callable[[Tensor], Tensor]


@contextmanager
def faulty(model: Any, effect: Effect, calls: Container[int]) -> Iterator[None]:
    """Let what the U-Net of a MODEL returns pass through `effect` on some calls, counted from 1."""
    count = 0

    def hook(unet: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return effect(output) if count in calls else output

    handle = model.model.diffusion_model.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def not_a_number(output: Tensor) -> Tensor:
    """Return NaN, as an overflow in half precision gives."""
    return output * float("nan")


def cancel(output: Tensor) -> Tensor:
    """Press Cancel: what the server does on /interrupt."""
    comfy.model_management.interrupt_current_processing()
    return output


def fail(output: Tensor) -> Tensor:
    """Fail as a bug in another pack does."""
    raise KeyError("from a test")


def run_out_of_memory(output: Tensor) -> Tensor:
    """Fail as torch does when the GPU is full."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
