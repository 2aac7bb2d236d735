"""Check MODEL, CLIP, VAE and CLIP_VISION, and borrow them for a training run."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.messages import Message
from ...acfun_ops.model_families import FAMILIES, name_of
from .autograd import clones_for_norms, replace_value
from .backbone import ComfyBackbone
from .families import network_of
from .node_status import check_connected
from .torch_compile import COMPILE_KEY, eager_call
from .transformer_training import exact_gradients

_EXPERIMENTAL = (
    "Training on {name} is experimental: nobody has seen its results on real weights yet, or "
    "whether a transformer keeps style and face apart."
)
_BYPASS = "bypass_lora"  # ComfyUI's key for LoRAs that it puts on modules and not on weights.


@contextmanager
def training_backbone(
    model: Any,
    clip: Any,
    vae: Any,
    clip_vision: Any,
    dtype: torch.dtype | None,
    prompt: str = "",
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[ComfyBackbone]:
    """Give a Backbone for the length of a training, outside inference mode.

    Args:
        model: a MODEL, as its socket brings it.
        clip: a CLIP.
        vae: a VAE.
        clip_vision: a CLIP_VISION.
        dtype: what the network shall compute in, None for ComfyUI's own choice.
        prompt: of the training, whose embeddings' contents count among the models.
        say: is told what the user should know of the models.

    Raises:
        ACFunError: a socket brings nothing, or nothing that training can use.
    """
    check_connected(model=model, clip=clip, vae=vae, clip_vision=clip_vision)
    family = network_of(model).family
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        patcher = static_clone(model)
        if not FAMILIES[family].learns_offsets:  # Else no gradient goes through it.
            clip = static_clone(clip)
            stack.enter_context(clones_for_norms(clip.cond_stage_model))
        # Asynchronous offloading takes a weight's memory for the next one after the forward pass,
        # while the backward pass still needs it.
        replace_value(comfy.model_management, "NUM_STREAMS", 0, stack)
        network = network_of(patcher)
        stack.enter_context(eager_call(network.module, {"wrappers": patcher.wrappers}, say))
        # It brings the module that was compiled, which need not be that of this clone.
        patcher.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, COMPILE_KEY)
        backbone = ComfyBackbone(patcher, clip, vae, clip_vision, prompt)
        if dtype is not None and dtype != backbone.compute_dtype:
            patcher.set_model_compute_dtype(dtype)
        stack.callback(backbone.close)
        stack.enter_context(exact_gradients(network))
        if network.layout is not None:
            name = name_of(network.family, network.context_width)
            say(Message(_EXPERIMENTAL, name=name))
        yield backbone


def static_clone(loaded: Any) -> Any:
    """Return a clone of a MODEL or CLIP whose weights stay in place, for one training.

    Dynamic loading pages weights out between forward and backward. ComfyUI's static delegate of
    such a model stays with it, for the next training.

    Raises:
        ACFunError: the model was loaded by a node that does not let ComfyUI load it again, or a
            node has changed modules of the loaded one, which the delegate has not.
    """
    patcher = getattr(loaded, "patcher", loaded)
    if not getattr(patcher, "is_dynamic", lambda: False)():
        return loaded.clone()
    try:
        static = patcher.get_non_dynamic_delegate()
    except RuntimeError as error:
        raise ACFunError(
            "This model was loaded by a node that cannot keep its weights in place for training. "
            "Load it with a stock loader, or start ComfyUI with --disable-dynamic-vram."
        ) from error
    if _BYPASS in patcher.injections or any("diffusion_model" in n for n in patcher.object_patches):
        raise ACFunError(
            "A node in front of the training changes modules of this loaded model, as Load LoRA "
            "(Bypass) does, and dynamic VRAM loading gives the training others. Use Load LoRA in "
            "its place, bypass that node, or start ComfyUI with --disable-dynamic-vram."
        )
    if patcher is loaded:
        return static
    clip = loaded.clone()
    clip.patcher, clip.cond_stage_model = static, static.model
    return clip
