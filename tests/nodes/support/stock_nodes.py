"""ComfyUI's own nodes as functions, and what a test asks of the models that they share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import comfy.sample
import torch
from torch import Tensor, nn

import nodes

Conditioning = list[list[Any]]


@torch.inference_mode()
def encode(clip: Any, text: str) -> Conditioning:
    """Return what CLIP Text Encode gives."""
    return nodes.CLIPTextEncode().encode(clip, text)[0]


@torch.inference_mode()
def sample(
    model: Any,
    positive: Conditioning,
    negative: Conditioning,
    *,
    steps: int = 3,
    batch: int = 1,
    seed: int = 5,
) -> list[Tensor]:
    """Run KSampler on an empty 64 pixel latent; return the denoised latents after each step."""
    latent = comfy.sample.fix_empty_latent_channels(model, torch.zeros(batch, 4, 8, 8))
    denoised: list[Tensor] = []
    comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(latent, seed),
        steps,
        7.0,
        "euler",
        "normal",
        positive,
        negative,
        latent,
        callback=lambda step, x0, x, total: denoised.append(x0.clone()),
        disable_pbar=True,
        seed=seed,
    )
    return denoised


def with_lora(
    model: Any, clip: Any, lora_name: str, on_model: float = 1.0, on_clip: float = 1.0
) -> tuple[Any, Any]:
    """Return MODEL and CLIP with a LoRA, at full strength if not told otherwise."""
    with torch.inference_mode():
        return nodes.LoraLoader().load_lora(model, clip, lora_name, on_model, on_clip)


def equal_conditioning(one: Conditioning, other: Conditioning) -> bool:
    """Tell whether two CONDITIONINGs are equal in every part and every key, bit for bit."""
    return len(one) == len(other) and all(
        torch.equal(a, b)
        and extra_a.keys() == extra_b.keys()
        and all(_equal(extra_a[key], extra_b[key]) for key in extra_a)
        for (a, extra_a), (b, extra_b) in zip(one, other, strict=True)
    )


def fingerprint(module: nn.Module) -> str:
    """Return a hash of all of a module's weights and buffers: names, types and bits."""
    digest = hashlib.blake2b()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def leftovers(module: nn.Module) -> list[str]:
    """Return the names of the parts of a module that carry hooks, own methods or gradients."""
    return [name for name, part in module.named_modules() if any(_traces(part))]


def _traces(part: nn.Module) -> Iterator[bool]:
    yield bool(part._forward_hooks or part._forward_pre_hooks)
    yield bool(part._backward_hooks or part._backward_pre_hooks)
    yield "forward" in vars(part)
    yield any(p is not None and p.grad is not None for p in part._parameters.values())


def _equal(one: Any, other: Any) -> bool:
    if torch.is_tensor(one):
        return torch.is_tensor(other) and torch.equal(one, other)
    return one == other
