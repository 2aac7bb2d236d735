"""A graphics card that is not there: torch computes shapes on it, and memory and traffic count.

torch's FakeTensorMode gives every tensor a device and no values. "lazy" stands for the card, since
torch refuses a fake "cuda" without a driver. Attention and the loss's number are stand-ins; all
else is the real ComfyUI and the real pack, so a tensor on the wrong device or in the wrong dtype
fails as on a card.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import comfy.model_management
import comfy.ops
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

GIB = 2**30
CARD = torch.device("lazy:0")
CPU = torch.device("cpu")
aten = torch.ops.aten
_NUMBERS = {torch.bool: True, torch.int64: 0}
_ITEM = {aten._local_scalar_dense, aten.item, aten.is_nonzero}
# These wait for the card: their result's size or value is needed on the CPU.
_SYNCS = _ITEM | {aten.nonzero, aten.equal}


class SimulatedCard(TorchDispatchMode):
    """Counts what happens on the card; use it through :func:`simulated_card`.

    live, peak: bytes of all tensors on it, now and at most since :meth:`restart`. syncs: how often
    the CPU waited for it. copies: tensors copied onto or off it.
    """

    def __init__(self, total: float) -> None:
        super().__init__()
        self.total = total
        self.live = self.peak = self.syncs = 0
        self.copies: Counter[str] = Counter()
        self.saved: dict[Any, int] = {}
        self._known: set[int] = set()

    def free(self, device: Any = None, torch_free_too: bool = False) -> Any:
        """Return what ComfyUI would be told is free; main memory has no end."""
        free = self.total - self.live if device in (None, CARD) else 64 * GIB
        return (free, free) if torch_free_too else free

    def restart(self) -> None:
        """Count peak, syncs, copies and saved tensors from here on."""
        self.peak, self.syncs = self.live, 0
        self.copies.clear()
        self.saved.clear()

    def save(self, tensor: Tensor) -> Tensor:
        """Note a tensor that autograd saves for backward; the weights themselves do not count."""
        if tensor.device == CARD and not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            self.saved[storage._cdata] = storage.nbytes()
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation on shapes, and count it."""
        kwargs = dict(kwargs or {})
        if "generator" in kwargs:
            kwargs["generator"] = None  # There are no numbers to draw, and torch refuses it here.
        operation = func.overloadpacket
        if operation in _SYNCS and args[0].device == CARD:
            self.syncs += 1
        if operation in _ITEM:
            return _NUMBERS.get(args[0].dtype, 1.0)
        result = func(*args, **kwargs)
        self._count_copy(operation, args, result)
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor) and tensor.device == CARD:
                self._hold(tensor)
        return result

    def _count_copy(self, operation: Any, args: Any, result: Any) -> None:
        if operation is aten.copy_:
            source, target = args[1].device, args[0].device
        elif operation in (aten._to_copy, aten.to):
            source, target = args[0].device, result.device
        else:
            return
        if source != target:
            self.copies["onto" if target == CARD else "off"] += 1
            self.syncs += source == CARD  # What is copied off must have been computed.

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


@contextmanager
def simulated_card(total: float = 80 * GIB, state: str = "NORMAL_VRAM") -> Iterator[SimulatedCard]:
    """Give ComfyUI a card of ``total`` bytes for the length of a ``with`` block.

    state: of ComfyUI's VRAMState: NORMAL_VRAM, LOW_VRAM (--lowvram) or NO_VRAM (--novram).
    """
    mm, card = comfy.model_management, SimulatedCard(total)
    changes = {
        "get_free_memory": card.free,
        "get_torch_device": lambda: CARD,
        "vram_state": getattr(mm.VRAMState, state),
        "supports_fp8_compute": lambda device=None: False,
        "soft_empty_cache": lambda force=False: None,
        "current_loaded_models": [],
        "lowvram_available": True,
    }
    with ExitStack() as stack:
        stack.callback(mm.cleanup_models)  # What died meanwhile is still in ComfyUI's own list.
        for name, value in changes.items():
            stack.enter_context(patch.object(mm, name, value))
        stack.enter_context(patch.object(nn.Module, "_apply", _apply))
        # torch knows no autocast for "lazy"; on ComfyUI the pack only ever turns it off.
        stack.enter_context(patch.object(torch, "autocast", lambda *a, **k: nullcontext()))
        stack.enter_context(
            patch.object(torch.nn.functional, "scaled_dot_product_attention", _attention)
        )
        stack.enter_context(patch.object(comfy.ops, "scaled_dot_product_attention", _attention))
        stack.enter_context(
            patch.object(torch.utils.checkpoint, "_infer_device_type", lambda *a: "cpu")
        )
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(card)
        stack.enter_context(
            torch.autograd.graph.saved_tensors_hooks(card.save, lambda tensor: tensor)
        )
        yield card


class _Attention(torch.autograd.Function):
    """Fused attention: it saves its inputs, its output and a number per row, and no matrix."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        output = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, output, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def _attention(q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    mask = kwargs.get("attn_mask")
    for tensor in (k, v) if mask is None else (k, v, mask):
        if (tensor.device, tensor.dtype) != (q.device, q.dtype):
            raise RuntimeError(f"attention of {q.device} {q.dtype} got {tensor.device}")
    return _Attention.apply(q, k, v)


def _apply(module: nn.Module, change: Any, recurse: bool = True) -> nn.Module:
    """Move a module as torch does without fake tensors: a new tensor under an old flag."""
    for child in module.children():
        _apply(child, change)
    with torch.no_grad():
        for name, weight in module._parameters.items():
            if weight is not None:
                moved = change(weight)
                if moved is not weight:
                    module._parameters[name] = nn.Parameter(moved, weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = change(buffer)
    return module
