"""Tiny MODELs of ComfyUI's own transformers, with deterministic random weights.

They are built as ComfyUI's loaders build them: by its kinds of models, under inference mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from torch import Tensor, nn

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


def build_model(family: str, **changes: Any) -> Any:
    """Return a MODEL of a family; `changes` are of its network's settings."""
    kind, settings = CONFIGS[family]
    config = getattr(comfy.supported_models, kind)(settings | changes)
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    with torch.inference_mode(), without_text_adapter():
        model = config.get_model({}, "")
        _fill(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


@contextmanager
def without_text_adapter() -> Iterator[None]:
    """Build Anima without its text adapter, 130 M parameters at a fixed size that no test runs."""
    with pytest.MonkeyPatch.context() as patch:
        if "anima" in FAMILIES:
            adapter = "comfy.ldm.anima.model.LLMAdapter"
            patch.setattr(adapter, lambda **settings: nn.Identity())
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
