"""Small, randomly initialised models that ComfyUI's own loaders accept.

Key names and shapes come from ComfyUI's module classes, built on the meta device, so no list of
keys is kept here. ComfyUI must be importable (the conftest of this folder sees to it).

The U-Nets have the width ComfyUI recognises a family by and as few blocks as it allows. The text
encoders and the CLIP vision model are full size: ComfyUI fixes their size by family. Every weight
is set, because ComfyUI leaves a weight that the file lacks uninitialised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from random_weights import StateDict, fill, predict_input_as_noise
from safetensors.torch import save_file
from torch import Tensor

# What ComfyUI's model detection derives for every U-Net, whatever its size.
UNET_DEFAULTS: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "legacy": False,
    "adm_in_channels": None,
}
SD1_UNET: dict[str, Any] = UNET_DEFAULTS | {
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
}
# ComfyUI reads the kind of prediction from output block 11, so the network needs twelve of them.
SD2_UNET: dict[str, Any] = UNET_DEFAULTS | {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 1, 1, 1],
    "transformer_depth": [1, 0, 0, 0, 0, 0, 0, 0],
    "transformer_depth_output": [1] + [0] * 11,
    "transformer_depth_middle": 1,
    "context_dim": 1024,
    "use_linear_in_transformer": True,
}
# ComfyUI knows SDXL by the transformer depths of the input blocks; the others are free.
SDXL_UNET: dict[str, Any] = UNET_DEFAULTS | {
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 1, 1],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}
# KOALA-700M's layout, which has no middle block.
KOALA_UNET: dict[str, Any] = SDXL_UNET | {
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 2, 5],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "transformer_depth_middle": -2,
}
V_PREDICTION_KEY = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
VIT_L_KEY = "vision_model.encoder.layers.22.layer_norm1.weight"
LORA_RANK = 4


def write_sd1_checkpoint(
    path: Path,
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    unet: Mapping[str, Any] = SD1_UNET,
) -> None:
    """Write an SD1 checkpoint: noise prediction, 44 M U-Net, CLIP-L, TAESD VAE."""
    _save(checkpoint_state("SD15", unet, seed, dtype), path)


def write_sd2_v_checkpoint(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> None:
    """Write an SD2.1-768 checkpoint: v prediction, OpenCLIP-H, TAESD VAE."""
    state = fill(_checkpoint_layout("SD20", SD2_UNET), seed, dtype)
    # ComfyUI takes an SD2 network for a v model when this bias varies by more than 0.09.
    bias = torch.full(state[V_PREDICTION_KEY].shape, 0.2, dtype=dtype)
    bias[::2] *= -1
    state[V_PREDICTION_KEY] = bias
    _save(state, path)


def write_sdxl_checkpoint(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> None:
    """Write an SDXL base checkpoint: noise prediction, CLIP-L and OpenCLIP-G, TAESD VAE."""
    _save(checkpoint_state("SDXL", SDXL_UNET, seed, dtype), path)


def write_koala_checkpoint(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> None:
    """Write a KOALA-700M checkpoint: an SDXL U-Net without a middle block, TAESD VAE."""
    _save(checkpoint_state("KOALA_700M", KOALA_UNET, seed, dtype), path)


def write_unet_only(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> None:
    """Write the SD1 checkpoint's U-Net (other weights) without text encoder and VAE."""
    state = fill(_with_prefix("model.diffusion_model.", _unet_layout(SD1_UNET)), seed, dtype)
    predict_input_as_noise(state)
    _save(state, path)


def write_sd3_checkpoint(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> None:
    """Write an SD3 transformer of two blocks and nothing else: a model without ResBlocks."""
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    depth, width = 2, 128  # ComfyUI reads the depth as the width divided by 64.
    linear = {"in_features": 4096, "out_features": width}
    with torch.device("meta"):
        network = MMDiT(
            input_size=None,
            in_channels=16,
            depth=depth,
            adm_in_channels=2048,
            context_embedder_config={"target": "torch.nn.Linear", "params": linear},
            num_patches=64,
            pos_embed_max_size=8,
            pos_embed_scaling_factor=None,
            dtype=torch.float32,
            device="meta",
            operations=torch.nn,
        )
    layout = _with_prefix("model.diffusion_model.", network.state_dict())
    _save(fill(layout, seed, dtype), path)


def write_clip_vision(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> None:
    """Write a CLIP ViT-L/14 vision model, 304 M weights: ComfyUI accepts no smaller one."""
    _save(clip_vision_state(seed, dtype), path)


def checkpoint_state(
    family: str,
    unet: Mapping[str, Any],
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    device: str = "cpu",
) -> StateDict:
    """Return a checkpoint that predicts noise, of a family of `comfy.supported_models`.

    It lies on the CPU; the numbers are drawn on `device`, and are others on each kind of it.
    """
    state = fill(_checkpoint_layout(family, dict(unet)), seed, dtype, device)
    predict_input_as_noise(state)
    return state


def clip_vision_state(
    seed: int = 0, dtype: torch.dtype = torch.float16, device: str = "cpu"
) -> StateDict:
    """Return a CLIP ViT-L/14 vision model on the CPU, drawn on `device`."""
    import json

    import comfy.clip_model
    import comfy.ops

    config_file = Path(comfy.clip_model.__file__).with_name("clip_vision_config_vitl.json")
    config = json.loads(config_file.read_text())
    with torch.device("meta"):
        model = comfy.clip_model.CLIPVisionModelProjection(
            config, torch.float32, "meta", comfy.ops.disable_weight_init
        )
    layout = dict(model.state_dict())
    # ComfyUI knows a ViT-L by this layer, which is missing where encoders are short.
    layout.setdefault(VIT_L_KEY, layout[VIT_L_KEY.replace(".22.", ".0.")])
    return fill(layout, seed, dtype, device)


def write_controlnet(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> None:
    """Write a ControlNet for the U-Net of `write_sd1_checkpoint`, with non-zero outputs."""
    from comfy.cldm.cldm import ControlNet

    config = {key: value for key, value in SD1_UNET.items() if key != "out_channels"}
    with torch.device("meta"):
        network = ControlNet(**config, hint_channels=3, num_heads=8, device="meta")
    _save(fill(_with_prefix("control_model.", network.state_dict()), seed, dtype), path)


def write_lora(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> None:
    """Write a LoRA in kohya's format for `write_sd1_checkpoint`: U-Net and text encoder."""
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
    layer = "lora_te_text_model_encoder_layers_0"
    context, channels = SD1_UNET["context_dim"], SD1_UNET["model_channels"]
    sizes = {
        f"{block}_attn1_to_q": (channels, channels),
        f"{block}_attn2_to_k": (context, channels),
        f"{block}_attn2_to_v": (context, channels),
        f"{layer}_self_attn_q_proj": (context, context),
        f"{layer}_mlp_fc1": (context, 4 * context),
    }
    layout: StateDict = {}
    for name, (inputs, outputs) in sizes.items():
        layout[f"{name}.lora_down.weight"] = torch.empty(LORA_RANK, inputs, device="meta")
        layout[f"{name}.lora_up.weight"] = torch.empty(outputs, LORA_RANK, device="meta")
        layout[f"{name}.alpha"] = torch.tensor(float(LORA_RANK))
    _save(fill(layout, seed, dtype), path)


def write_upscale_model(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> None:
    """Write an ESRGAN that enlarges twofold: one block of eight filters."""
    from spandrel.architectures.ESRGAN import ESRGAN

    with torch.device("meta"):
        network = ESRGAN(num_filters=8, num_blocks=1, scale=2)
    _save(fill(network.state_dict(), seed, dtype), path)


def _checkpoint_layout(family: str, unet_config: dict[str, Any]) -> StateDict:
    """Return a checkpoint of a family of `comfy.supported_models`, as ComfyUI would save it."""
    import comfy.supported_models
    import comfy.taesd.taesd

    model_config = getattr(comfy.supported_models, family)(unet_config)
    with torch.device("meta"):
        text_encoder = model_config.clip_target().clip(device="meta", dtype=torch.float32)
        vae = dict(comfy.taesd.taesd.TAESD().state_dict())
    vae["vae_scale"] = torch.tensor(model_config.latent_format.scale_factor)
    vae["vae_shift"] = torch.tensor(0.0)
    return {
        **model_config.process_clip_state_dict_for_saving(dict(text_encoder.state_dict())),
        **model_config.process_vae_state_dict_for_saving(vae),
        **model_config.process_unet_state_dict_for_saving(_unet_layout(model_config.unet_config)),
    }


def _unet_layout(config: dict[str, Any]) -> StateDict:
    """Return the meta state dict of ComfyUI's U-Net; the head count has no influence on it."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    heads = {"num_heads": 8, "num_head_channels": -1}
    with torch.device("meta"):
        return dict(UNetModel(**config | heads, device="meta").state_dict())


def _with_prefix(prefix: str, state: Mapping[str, Tensor]) -> StateDict:
    return {prefix + name: tensor for name, tensor in state.items()}


def _save(state: StateDict, path: Path) -> None:
    """Write the state dict; the file appears under its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(state, partial)
    partial.replace(path)
