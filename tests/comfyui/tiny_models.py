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
from safetensors.torch import save_file
from torch import Tensor

StateDict = dict[str, Tensor]

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
V_PREDICTION_KEY = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
LORA_RANK = 4


def write_sd1_checkpoint(
    path: Path,
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    unet: Mapping[str, Any] = SD1_UNET,
) -> None:
    """Write an SD1 checkpoint: noise prediction, 44 M U-Net, CLIP-L, TAESD VAE."""
    state = fill(_checkpoint_layout("SD15", dict(unet)), seed, dtype)
    _predict_input_as_noise(state)
    _save(state, path)


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
    state = fill(_checkpoint_layout("SDXL", SDXL_UNET), seed, dtype)
    _predict_input_as_noise(state)
    _save(state, path)


def write_unet_only(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> None:
    """Write the SD1 checkpoint's U-Net (other weights) without text encoder and VAE."""
    state = fill(_with_prefix("model.diffusion_model.", _unet_layout(SD1_UNET)), seed, dtype)
    _predict_input_as_noise(state)
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
    import json

    import comfy.clip_model
    import comfy.ops

    config_file = Path(comfy.clip_model.__file__).with_name("clip_vision_config_vitl.json")
    config = json.loads(config_file.read_text())
    with torch.device("meta"):
        model = comfy.clip_model.CLIPVisionModelProjection(
            config, torch.float32, "meta", comfy.ops.disable_weight_init
        )
    _save(fill(model.state_dict(), seed, dtype), path)


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


def fill(layout: Mapping[str, Tensor], seed: int, dtype: torch.dtype) -> StateDict:
    """Return the layout with each meta tensor drawn from the seed, in the order of the names.

    Tensors that are not on the meta device keep their values. Floating point becomes `dtype`.
    """
    generator = torch.Generator().manual_seed(seed)
    state: StateDict = {}
    for name in sorted(layout):
        tensor = layout[name]
        if tensor.is_meta:
            tensor = _initial_value(name, tensor.shape, generator)
        state[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return state


def _initial_value(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return norms as the identity, biases as zero, and other weights scaled to unit output."""
    leaf = name.rpartition(".")[2]
    if leaf == "logit_scale":
        return torch.tensor(4.6055)  # As in the released CLIP models; no node reads it.
    if name.endswith("taesd_decoder.19.bias"):
        return torch.full(shape, 0.5)  # Mid-grey: the decoder's pictures lie in [0, 1].
    if leaf.endswith("bias"):
        return torch.zeros(shape)
    if len(shape) == 1 and leaf in ("weight", "scale"):
        return torch.ones(shape)
    if "embedding" in leaf or name.endswith("embedding.weight"):
        std = 0.02  # As in the released CLIP models.
    else:
        std = _output_gain(name) * (shape[0] / shape.numel()) ** 0.5
    return torch.empty(shape).normal_(0.0, std, generator=generator)


def _output_gain(name: str) -> float:
    """Return the gain of a weight: small for what is zero or small in a trained network."""
    if "zero_convs." in name or "middle_block_out." in name:
        return 0.02
    if name.endswith(("diffusion_model.out.2.weight", "lora_up.weight")):
        return 0.1
    if name.endswith("taesd_encoder.14.weight"):
        return 3.0  # Brings the latents of a picture to about unit variance.
    return 1.0


def _predict_input_as_noise(state: StateDict) -> None:
    """Make the random U-Net predict its normalised input as the noise, plus its random output.

    A trained network does so at high noise. Without it, sampling adds the whole starting noise
    to the latent and the decoder saturates. Channels 0 to 3 carry the input and 4 to 7 its
    negative from the first convolution over the last skip connection to the last convolution,
    where silu(a) - silu(-a) = a.
    """
    prefix = "model.diffusion_model."
    blocks = {
        int(name.split(".")[3]) for name in state if name.startswith(f"{prefix}output_blocks")
    }
    last = f"{prefix}output_blocks.{max(blocks)}"
    first = state[f"{prefix}input_blocks.0.0.weight"]
    skip = state[f"{last}.0.skip_connection.weight"]
    out = state[f"{prefix}out.2.weight"]
    width = first.shape[0]
    group = width // 32  # The channels that the last normalisation handles together.

    for name in (f"{last}.0.out_layers.3.weight", f"{last}.1.proj_out.weight"):
        if name in state:  # SDXL has no transformer in its last block.
            state[name][:group] = 0
    first[:group] = 0
    skip[:group] = 0
    for channel in range(group):
        skip[channel, width + channel] = 1
    for channel in range(4):
        first[channel, channel, 1, 1] = 1
        first[4 + channel, channel, 1, 1] = -1
        out[channel, channel, 1, 1] += (8 / group) ** 0.5
        out[channel, 4 + channel, 1, 1] -= (8 / group) ** 0.5


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
