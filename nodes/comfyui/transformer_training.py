"""Right gradients through ComfyUI's transformers, for the length of a training."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import comfy.model_management
from torch import Tensor

from .autograd import clones_for_norms, replace_forward, replace_value
from .families import Network
from .sites import blocks_of


@contextmanager
def exact_gradients(network: Network) -> Iterator[None]:
    """Make a transformer differentiable in a ``with`` block; a U-Net needs none of it."""
    with ExitStack() as stack:
        if network.layout is not None:
            stack.enter_context(_differentiable_kernels())
            if network.layout.adds_in_place:
                for block in blocks_of(network):
                    replace_forward(block, partial(_run_on_copies, block.forward), stack)
                    stack.enter_context(clones_for_norms(block))
        yield


@contextmanager
def _differentiable_kernels() -> Iterator[None]:
    """Have ComfyUI compute norms and rotary embeddings by functions that have a backward."""
    settings: Any = comfy.model_management
    with ExitStack() as restore:
        # ComfyUI 0.3.64 has no such kernels yet.
        if hasattr(settings, "in_training"):
            replace_value(settings, "in_training", True, restore)
        operations: Any = sys.modules.get("comfy.quant_ops")
        if hasattr(operations, "ck") and find_spec("comfy_kitchen") is not None:
            # Anima does not ask for in_training.
            replace_value(operations, "ck", _EagerKernels(operations.ck), restore)
        yield


class _EagerKernels:
    """ComfyUI's kernels with plain functions in the place of those for rotary embeddings."""

    def __init__(self, kernels: Any) -> None:
        self._kernels = kernels
        self._eager = import_module("comfy_kitchen.backends.eager.rope")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._eager, name, None) or getattr(self._kernels, name)


def _run_on_copies(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a block on copies of its tokens, which it adds to in place.

    Without them a checkpointed block starts from spoilt tokens when it is computed again, and its
    gradients are wrong without an error.
    """
    named = {name: _copy(value) for name, value in kwargs.items()}
    return forward(*map(_copy, args), **named)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) and value.ndim == 3 else value
