"""Fingerprint of the models of a training run: their weights, and whether they are patched."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ...acfun_ops.backbones.backbone import fingerprint_of

_OPTIONS = ("transformer_options", "model_function_wrapper", "sampler_cfg_function")
_HOOKS = ("injections", "additional_models", "weight_wrapper_patches")


def model_fingerprint(
    model: Any,
    clip: Any,
    vae: Any,
    clip_vision: Any,
    is_patched: bool,
    embeddings: Iterable[tuple[str, Tensor]],
) -> str:
    """Return a hash of a sample of all weights that training depends on, and of their patches.

    It is the same wherever ComfyUI keeps the weights: patches, such as LoRAs, are baked into those
    that fit the card and are added at each use to those that stay in main memory, and which ones
    fit may differ from one load to the next.

    Args:
        model: a MODEL that is loaded.
        clip: a CLIP that is loaded.
        vae: a VAE.
        clip_vision: a CLIP_VISION.
        is_patched: whether other patches than those on weights act, see :func:`is_patched`.
        embeddings: of the prompt, of :func:`prompt_embeddings`.
    """
    encoder = clip.patcher
    weights = chain(
        _base_weights(model, model.get_model_object("diffusion_model"), "diffusion_model."),
        _base_weights(encoder, clip.cond_stage_model),
        clip_vision.model.named_parameters(),
        vae.first_stage_model.named_parameters(),
    )
    are_set = ((name, weight) for name, weight in weights if _is_set(name))
    settings = f"{clip.layer_idx}{'patched' if is_patched else ''}"
    patches = chain(_weight_patches(model), _weight_patches(encoder))
    return fingerprint_of(chain(are_set, patches, embeddings), settings)


def _base_weights(
    patcher: Any, network: nn.Module, prefix: str = ""
) -> Iterator[tuple[str, Tensor]]:
    """Yield a network's weights as they are without patches."""
    for name, weight in network.named_parameters():
        key = prefix + name
        # What a hook has changed since is in no patch, so it counts as it is.
        is_baked = key in patcher.backup and key not in patcher.hook_backup
        yield name, patcher.backup[key].weight if is_baked else weight


def _weight_patches(patcher: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield all that tells a patcher's patches from others: strengths in names, and tensors."""
    for key in sorted(patcher.patches):
        yield from _parts(key, patcher.patches[key])


def _parts(name: str, part: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(part, Tensor):
        yield name, part
    elif isinstance(part, list | tuple):
        for number, one in enumerate(part):
            yield from _parts(f"{name}.{number}", one)
    elif isinstance(part, str | int | float):
        yield f"{name} {part}", torch.empty(0)
    else:  # An adapter (LoRA, LoKr, ...); what else there is has no weights.
        yield from _parts(f"{name} {type(part).__name__}", getattr(part, "weights", ()))


def _is_set(name: str) -> bool:
    # Checkpoints may lack these, and ComfyUI then leaves them uninitialised.
    return "_projection." not in name and not name.endswith("logit_scale")


def is_patched(model: Any, clip: Any) -> bool:
    """Tell whether a call of MODEL or CLIP runs anything but ComfyUI's own code on its weights.

    Patches on weights, such as LoRAs, do not count; ComfyUI's own nodes, such as FreeU, do.
    """
    options = (model.model_options.get(name) for name in _OPTIONS)
    # A CLIP's object patches are ComfyUI's own settings of how it computes.
    changed = any(options) or bool(model.object_patches)
    return changed or _has_hooks(model) or _has_hooks(clip.patcher)


def _has_hooks(patcher: Any) -> bool:
    wrappers = any(patcher.wrappers.values())
    return wrappers or any(getattr(patcher, name) for name in _HOOKS)
