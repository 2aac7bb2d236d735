"""Tiny MODELs of ComfyUI's own transformers, with deterministic random weights.

They are built as ComfyUI's loaders build them: by its kinds of models, under inference mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import comfy.model_patcher
import comfy.sample
import comfy.supported_models
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEXT_WIDTH = 64
_LUMINA: dict[str, Any] = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "cap_feat_dim": TEXT_WIDTH,
    "n_layers": 4,
    "qk_norm": True,
    "n_heads": 4,
    "multiple_of": 32,
}
_FLUX: dict[str, Any] = {
    "num_heads": 3,
    "theta": 10000,
    "qkv_bias": True,
    "txt_ids_dims": [],
    "hidden_size": 96,
    "context_in_dim": TEXT_WIDTH,
    "depth": 2,
    "depth_single_blocks": 4,
    "axes_dim": [8, 12, 12],
    "mlp_ratio": 4.0,
    "vec_in_dim": None,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "zimage": (
        "ZImage",
        _LUMINA
        | {
            "dim": 256,
            "n_kv_heads": 4,
            "axes_dims": [16, 24, 24],
            "axes_lens": [1536, 512, 512],
            "rope_theta": 256.0,
            "ffn_dim_multiplier": 1.0,
            "z_image_modulation": True,
            "time_scale": 1000.0,
            "pad_tokens_multiple": 32,
        },
    ),
    "lumina2": (
        "Lumina2",
        _LUMINA
        | {
            "dim": 96,
            "n_kv_heads": 2,
            "axes_dims": [8, 8, 8],
            "axes_lens": [300, 512, 512],
            "rope_theta": 10000.0,
            "ffn_dim_multiplier": 4.0,
        },
    ),
    "flux": (
        "Flux",
        _FLUX
        | {
            "image_model": "flux",
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "vec_in_dim": 32,
            "guidance_embed": True,
        },
    ),
    "flux2": (
        "Flux2",
        _FLUX
        | {
            "image_model": "flux2",
            "patch_size": 1,
            "in_channels": 128,
            "out_channels": 128,
            "axes_dim": [8, 8, 8, 8],
            "mlp_ratio": 3.0,
            "theta": 2000,
            "global_modulation": True,
            "mlp_silu_act": True,
            "qkv_bias": False,
            "ops_bias": False,
            "default_ref_method": "index",
            "ref_index_scale": 10.0,
            "txt_ids_dims": [3],
            "guidance_embed": False,
        },
    ),
    "chroma": (
        "Chroma",
        _FLUX
        | {
            "image_model": "chroma",
            "patch_size": 2,
            "in_channels": 64,
            "out_channels": 64,
            "in_dim": 64,
            "out_dim": 96,
            "hidden_dim": 64,
            "n_layers": 2,
        },
    ),
    "sd3": (
        "SD3",
        {
            "in_channels": 16,
            "patch_size": 2,
            "depth": 4,
            "pos_embed_max_size": 32,
            "num_patches": 1024,
            "pos_embed_scaling_factor": None,
            "adm_in_channels": 32,
            "input_size": None,
            "qk_norm": "rms",
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": TEXT_WIDTH, "out_features": 256},
            },
        },
    ),
    "qwen_image": (
        "QwenImage",
        {
            "image_model": "qwen_image",
            "patch_size": 2,
            "in_channels": 64,
            "out_channels": 16,
            "num_layers": 4,
            "attention_head_dim": 32,
            "num_attention_heads": 3,
            "joint_attention_dim": TEXT_WIDTH,
            "axes_dims_rope": (8, 12, 12),
        },
    ),
    "anima": (
        "Anima",
        {
            "image_model": "anima",
            "max_img_h": 240,
            "max_img_w": 240,
            "max_frames": 128,
            "in_channels": 16,
            "out_channels": 16,
            "patch_spatial": 2,
            "patch_temporal": 1,
            "model_channels": 96,
            "concat_padding_mask": True,
            "crossattn_emb_channels": TEXT_WIDTH,
            "pos_emb_cls": "rope3d",
            "pos_emb_learnable": True,
            "pos_emb_interpolation": "crop",
            "min_fps": 1,
            "max_fps": 30,
            "use_adaln_lora": True,
            "adaln_lora_dim": 16,
            "num_blocks": 4,
            "num_heads": 2,
            "extra_per_block_abs_pos_emb": False,
            "rope_h_extrapolation_ratio": 4.0,
            "rope_w_extrapolation_ratio": 4.0,
            "rope_t_extrapolation_ratio": 1.0,
        },
    ),
}
POOLED_WIDTH = {"flux": 32, "sd3": 32}
FAMILIES = tuple(
    family for family, (kind, _) in CONFIGS.items() if hasattr(comfy.supported_models, kind)
)
# Of these families, settings that ComfyUI 0.3.64 does not know yet.
LATER = {
    "lumina2": {"rope_theta"},
    "flux": {"txt_ids_dims"},
    "chroma": {"txt_ids_dims", "vec_in_dim"},
}


def build_model(family: str, **changes: Any) -> Any:
    """Return a MODEL of a family; `changes` are of its network's settings."""
    kind, settings = CONFIGS[family]
    later = set() if "zimage" in FAMILIES else LATER.get(family, set())
    known = {name: value for name, value in settings.items() if name not in later}
    config = getattr(comfy.supported_models, kind)(known | changes)
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    with torch.inference_mode(), tiny_text_adapter():
        model = config.get_model({}, "")
        _fill(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


@contextmanager
def tiny_text_adapter() -> Iterator[None]:
    """Build Anima with a tiny text adapter in the place of 130 M parameters of a fixed size."""
    with pytest.MonkeyPatch.context() as patch:
        if "anima" in FAMILIES:
            anima: Any = import_module("comfy.ldm.anima.model")
            widths = (TEXT_WIDTH,) * 3
            tiny = partial(anima.LLMAdapter, *widths, num_layers=1, num_heads=2)
            patch.setattr(anima, "LLMAdapter", tiny)
        yield


def _fill(network: nn.Module) -> None:
    """Give a network random weights that keep numbers in range."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in sorted(network.named_parameters()):
        weight.copy_(_initial_value(name, weight.shape, generator))
    for name, buffer in sorted(network.named_buffers()):
        if name.endswith("pos_embed"):  # Of SD3; ComfyUI loads it with the weights.
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))


def _initial_value(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if "norm" in name and name.endswith("weight"):
        return torch.ones(shape)
    return noise / shape[-1] ** 0.5 if len(shape) > 1 else 0.02 * noise


def has_frames(family: str) -> bool:
    """Tell whether the family's latents have an axis of time."""
    return family in ("qwen_image", "anima")


def sample(model: Any, steps: int = 2, frames: int = 1, **condition: Any) -> Tensor:
    """Return latents that KSampler's path draws of a MODEL, under two prompts of other lengths."""
    family = next(f for f, (kind, _) in CONFIGS.items() if kind == kind_of(model))
    generator = torch.Generator().manual_seed(5)
    prompts = []
    for length in (20, 12):
        told = dict(condition)
        if family in POOLED_WIDTH:
            told["pooled_output"] = torch.randn(1, POOLED_WIDTH[family], generator=generator)
        prompts.append([[torch.randn(1, length, TEXT_WIDTH, generator=generator), told]])
    latent = torch.zeros(1, model.model.latent_format.latent_channels, 8, 12)
    if has_frames(family):
        latent = latent.unsqueeze(2).repeat(1, 1, frames, 1, 1)
    noise = torch.randn(latent.shape, generator=generator)
    how: Any = (steps, 2.0, "euler", "simple", *prompts, latent)
    with torch.inference_mode():
        return comfy.sample.sample(model, noise, *how, disable_pbar=True, seed=1)


def kind_of(model: Any) -> str:
    """Return ComfyUI's kind of a MODEL."""
    return type(model.model.model_config).__name__


class TinyVAE:
    """A VAE whose latents are the pixels of squares, mixed to a family's channels."""

    first_stage_model = nn.Module()

    def __init__(self, model: Any) -> None:
        latents = model.model.latent_format
        self.scale = getattr(latents, "spacial_downscale_ratio", 8)
        self.has_frames = latents.latent_dimensions == 3
        generator = torch.Generator().manual_seed(7)
        self.mix = torch.randn(3 * self.scale**2, latents.latent_channels, generator=generator)

    def encode(self, pictures: Tensor) -> Tensor:
        """Return latents of one picture, as a VAE for videos takes them."""
        squares = F.pixel_unshuffle(pictures.movedim(-1, 1).float() - 0.5, self.scale)
        latents = torch.einsum("bchw,cd->bdhw", squares, self.mix) / self.scale
        return latents.unsqueeze(2) if self.has_frames else latents

    def decode(self, latents: Tensor) -> Tensor:
        """Return pictures as large as the latents."""
        return latents[:, :3].movedim(1, -1).sigmoid()


class TinyVision:
    """A CLIP_VISION without weights."""

    model = nn.Module()

    def encode_image(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return tokens ``(b, 16, 48)``."""
        tiles = F.adaptive_avg_pool2d(pictures.movedim(-1, 1).float(), 16)
        tokens = F.pixel_unshuffle(tiles, 4).flatten(2).movedim(1, 2)
        return {"penultimate_hidden_states": tokens}
