"""Train through weights that ComfyUI shares and loads in inference mode; gradient checkpointing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from comfy.clip_model import CLIPLayer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint


class Freeze:
    """Keeps shared modules from collecting gradients; :meth:`restore` puts their own flags back.

    ComfyUI before August 2026 builds U-Nets whose weights ask for gradients.

    Args:
        modules: the shared modules.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = modules
        self.asking = [name for name, weight in self._weights() if weight.requires_grad]

    def apply(self) -> None:
        """Turn the flags off; anew after each load, because loading replaces weights."""
        for _, weight in self._weights():
            weight.requires_grad_(False)

    def restore(self) -> None:
        """Put the flags back as they were."""
        asking = set(self.asking)
        with torch.inference_mode():  # Outside of it an inference tensor cannot ask.
            for name, weight in self._weights():
                weight.requires_grad_(name in asking)

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        for number, module in enumerate(self.modules):
            for name, weight in module.named_parameters():
                yield f"{number}.{name}", weight


def make_differentiable(module: nn.Module, device: torch.device) -> None:
    """Replace inference tensors among a module's weights by equal normal ones, one at a time.

    ComfyUI loads weights in inference mode, and autograd refuses to save inference tensors.
    Call it outside inference mode. The values do not change, so neither do pictures. Weights that
    stay on another device are copied by ComfyUI where they are used, and stay as they are.
    """
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and _is_refused(parameter, device):
                part._parameters[name] = nn.Parameter(parameter.clone(), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None and _is_refused(buffer, device):
                part._buffers[name] = buffer.clone()


class NormalTensors(TorchFunctionMode):
    """While active, operations see normal copies of inference tensors.

    A patch on a MODEL may hide its own weights anywhere; this finds them where they are used.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation on normal tensors."""
        if func == _SET_DATA and args[0].is_inference():
            with torch.inference_mode():  # A patch moves its weights: what they move to is as they.
                return func(args[0], args[1].clone())
        if torch.is_grad_enabled() and func not in _QUERIES:
            args, kwargs = tree_map_only(Tensor, _normal, (args, dict(kwargs or {})))
        return func(*args, **(kwargs or {}))


_ATTRIBUTES: Any = Tensor
_SET_DATA = _ATTRIBUTES.data.__set__
_QUERIES = {
    Tensor.is_inference,
    Tensor.clone,
    _ATTRIBUTES.requires_grad.__get__,
    _ATTRIBUTES.grad.__get__,
}


def _normal(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor


def _is_refused(tensor: Any, device: torch.device) -> bool:
    return torch.is_tensor(tensor) and tensor.is_inference() and tensor.device == device


def replace_value(owner: Any, name: str, value: Any, restore: ExitStack) -> None:
    """Give an attribute another value until ``restore`` closes."""
    restore.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


@contextmanager
def clones_for_norms(network: nn.Module) -> Iterator[None]:
    """Give the LayerNorms of a network copies of their inputs, in a ``with`` block.

    CLIP and Flux add to their hidden state in place, which spoils what is saved for backward.
    """

    def clone(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0].clone(), *args[1:])

    with ExitStack() as hooks:
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                hooks.callback(module.register_forward_pre_hook(clone).remove)
        yield


@contextmanager
def checkpoint_blocks(
    blocks: Iterable[nn.Module], guard: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Iterator[None]:
    """Recompute a network's blocks in the backward pass for the length of a ``with`` block.

    ``guard`` is active inside each block, in the forward pass and in the recomputation.
    """
    with ExitStack() as restore:
        for block in blocks:
            replace_forward(block, partial(_run_checkpointed, block.forward, guard), restore)
        yield


@contextmanager
def checkpoint_layers(encoders: nn.Module) -> Iterator[None]:
    """Recompute the layers of CLIP text encoders in the backward pass likewise."""
    with ExitStack() as restore:
        for layer in encoders.modules():
            if isinstance(layer, CLIPLayer):
                replace_forward(layer, partial(_run_layer_checkpointed, layer.forward), restore)
        yield


def replace_forward(module: nn.Module, forward: Callable[..., Any], restore: ExitStack) -> None:
    """Give a module another forward until ``restore`` closes."""
    own = vars(module).get("forward")  # Other packs may have given it one.
    module.forward = forward
    if own is None:
        restore.callback(delattr, module, "forward")
    else:
        restore.callback(setattr, module, "forward", own)


def _run_checkpointed(
    forward: Callable[..., Any],
    guard: Callable[[], AbstractContextManager[Any]],
    *args: Any,
    **kwargs: Any,
) -> Any:
    def run_guarded(*args: Any, **kwargs: Any) -> Any:
        with guard():
            return forward(*args, **kwargs)

    # The network goes on writing into transformer_options; the recomputation must see them as now.
    seen = [dict(arg) if isinstance(arg, dict) else arg for arg in args]
    named = {n: dict(arg) if isinstance(arg, dict) else arg for n, arg in kwargs.items()}
    run = partial(run_guarded, **named)
    return checkpoint(run, *seen, use_reentrant=False, preserve_rng_state=False)


def _run_layer_checkpointed(forward: Callable[..., Tensor], x: Tensor, *args: Any) -> Tensor:
    def on_copy(x: Tensor) -> Tensor:
        return forward(x.clone(), *args)  # A layer adds to its input in place.

    return checkpoint(on_copy, x, use_reentrant=False, preserve_rng_state=False)
