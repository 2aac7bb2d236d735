"""Calls of a compiled U-Net that must not run a graph made without a style's inserts."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from threading import Lock
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from ...acfun_ops.errors import ACFunError

COMPILE_KEY = "torch.compile"
"""ComfyUI's, of the wrapper that puts a compiled U-Net in the plain one's place for a call."""


def eager_call(
    unet: Any, options: Mapping[str, Any], say: Callable[[str], None]
) -> AbstractContextManager[None]:
    """Return a context in which a U-Net runs without compiling.

    Args:
        unet: the U-Net.
        options: the transformer_options of the call.
        say: is told what the user should know.

    Raises:
        ACFunError: the U-Net is compiled, and this torch cannot switch that off.
    """
    if "torch._dynamo" not in sys.modules:  # Nothing is compiled.
        return nullcontext()
    has_stances = hasattr(torch.compiler, "set_stance")
    wrappers = options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {})
    is_compiled = hasattr(unet, "_orig_mod") or unet._compiled_call_impl is not None
    if is_compiled or COMPILE_KEY in wrappers:
        if not has_stances:
            raise ACFunError(
                "This model is compiled, and torch {version} cannot switch that off for the "
                "calls with a style; torch 2.6 can. Bypass Torch Compile or update.",
                version=torch.__version__,
            )
        say(
            "This model is compiled; the steps in which the style acts run without compiling, "
            "because a compiled network does not see it."
        )
    return _force_eager() if has_stances else nullcontext()


_lock = Lock()
_callers = 0
_stance = ExitStack()


@contextmanager
def _force_eager() -> Iterator[None]:
    """Hold torch's stance, which is one for all threads, until the last of them leaves."""
    global _callers
    with _lock:
        if _callers == 0:
            _stance.enter_context(torch.compiler.set_stance("force_eager"))
        _callers += 1
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if _callers == 0:
                _stance.close()
