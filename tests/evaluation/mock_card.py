"""A graphics card that computes what the CPU does, and refuses what a card refuses.

Its tensors hold a CPU tensor each and call themselves "lazy", since torch takes no "cuda" without
a driver. Operations on tensors of both devices fail as on a card, and so does noise drawn on it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map_only

CARD = torch.device("lazy:0")
aten = torch.ops.aten
_TAKE_BOTH = {aten.copy_, aten._to_copy, aten.index}
_RANDOM = {aten.normal_, aten.randn, aten.rand, aten.randint, aten.uniform_, aten.bernoulli_}


class OnCard(Tensor):
    """A tensor on the card; ``inner`` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnCard":
        return Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=CARD,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __getitem__(self, places: Any) -> Tensor:
        return super().__getitem__(torch.tensor(places) if isinstance(places, list) else places)

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: Any, meta: Any, size: Any, stride: Any) -> "OnCard":
        return OnCard(inner["inner"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Sees what is made on the card out of nothing, too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [t for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)]
    ours = [t for t in tensors if isinstance(t, OnCard)]
    device = kwargs.get("device")
    is_made_here = device is not None and torch.device(device).type == CARD.type
    if not ours and not is_made_here:
        return func(*args, **kwargs)
    operation = func.overloadpacket
    if operation in _RANDOM:
        raise RuntimeError(f"{operation} draws on the card, where other cards draw other numbers")
    # Numbers without dimensions may come from the CPU.
    others = [t for t in tensors if not isinstance(t, OnCard) and t.ndim]
    if ours and others and operation not in _TAKE_BOTH:
        raise RuntimeError(f"Expected all tensors to be on the same device: {func}")
    inner_args, inner_kwargs = tree_map_only(OnCard, lambda t: t.inner, (args, kwargs))
    if device is not None:
        inner_kwargs["device"] = "cpu"
    result = func(*inner_args, **inner_kwargs)
    stays = is_made_here or (device is None and bool(ours))
    if operation is aten.copy_ and not isinstance(args[0], OnCard):
        return args[0]
    if not stays:
        return result
    wrapped = tree_map_only(Tensor, OnCard, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if ours else wrapped


@contextmanager
def mock_card() -> Iterator[torch.device]:
    """Have such a card for the length of a ``with`` block; yields its device."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(nn.Module, "_apply", _apply))
        stack.enter_context(patch.object(Tensor, "new_tensor", _new_tensor))
        stack.enter_context(patch.object(torch, "autocast", lambda *a, **k: nullcontext()))
        stack.enter_context(_Factories())
        yield CARD


def _new_tensor(self: Tensor, data: Any, dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(data, dtype=dtype or self.dtype).to(self.device)


def _apply(module: nn.Module, change: Any, recurse: bool = True) -> nn.Module:
    """Move a module by new parameters: torch cannot put another class's numbers into the old."""
    for child in module.children():
        _apply(child, change)
    with torch.no_grad():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(change(weight), weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = change(buffer)
    return module
