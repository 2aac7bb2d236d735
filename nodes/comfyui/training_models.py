"""What the sockets of a training bring: checked, and cloned so that the training may use it."""

from typing import Any

from ...acfun_ops.errors import ACFunError
from ..schema import check_connected
from .unet import unet_of

_BYPASS = "bypass_lora"  # ComfyUI's key for LoRAs that it puts on modules and not on weights.


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


def check_sockets(model: Any, clip: Any, vae: Any, clip_vision: Any) -> None:
    """Refuse sockets that bring nothing, or no U-Net.

    Raises:
        ACFunError: the message names the socket and what to connect.
    """
    check_connected(model=model, clip=clip, vae=vae, clip_vision=clip_vision)
    unet_of(model)
