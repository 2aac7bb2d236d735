"""A diffusers pipeline of any widths as MODEL, CLIP, VAE and CLIP_VISION of ComfyUI.

The U-Net, the text encoder and the image encoder become ComfyUI's own classes, so that every stock
node and every pack works on them. The VAE stays diffusers' and is wrapped.
"""

from __future__ import annotations

import json
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import comfy.clip_model
import comfy.clip_vision
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import torch
from diffusers import AutoencoderTiny, DDIMScheduler
from safetensors.torch import load_file
from torch import Tensor, nn

MODEL_TYPES = {
    "epsilon": comfy.model_base.ModelType.EPS,
    "v_prediction": comfy.model_base.ModelType.V_PREDICTION,
}


def load_prior(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Return MODEL, CLIP, VAE and CLIP_VISION of a diffusers folder."""
    vae = PriorVAE(folder / "vae")
    return load_model(folder, vae), load_clip(folder), vae, load_clip_vision(folder)


def load_model(folder: Path, vae: PriorVAE) -> Any:
    """Return the U-Net as a MODEL that knows the pipeline's noise schedule."""
    config = config_of(folder / "unet")
    model_config = PriorConfig(unet_config(config))
    model_config.set_inference_dtype(torch.float32, None)
    model_config.latent_format = vae.latent_format()
    groups = config["norm_num_groups"]
    operations = {"GroupNorm": partial(grouped_norm, groups)}
    model_config.custom_operations = type(
        "Operations", (comfy.ops.disable_weight_init,), operations
    )
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    model = comfy.model_base.BaseModel(
        model_config, MODEL_TYPES[scheduler.config.prediction_type], torch.device("cpu")
    )
    kept = scheduler.alphas_cumprod.double().clamp(min=2.0**-24)  # As acfun_ops has it.
    model.model_sampling.set_sigmas(((1 - kept) / kept).sqrt().float())
    names = comfy.utils.unet_to_diffusers(model_config.unet_config)
    weights = {names[key]: value.float() for key, value in weights_of(folder / "unet").items()}
    model.diffusion_model.load_state_dict(weights)
    return comfy.model_patcher.ModelPatcher(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def load_clip(folder: Path) -> Any:
    """Return the text encoder with its own tokenizer as a CLIP of one encoder, "l"."""
    config = config_of(folder / "text_encoder")
    width, length = config["hidden_size"], config["max_position_embeddings"]
    tokenizer = partial(
        comfy.sd1_clip.SDTokenizer,
        tokenizer_path=str(folder / "tokenizer"),
        max_length=length,
        embedding_size=width,
    )
    model = partial(
        comfy.sd1_clip.SDClipModel,
        max_length=length,
        textmodel_json_config=config,
        model_class=TextModel,
        special_tokens={name: config[f"{token}_token_id"] for name, token in SPECIAL.items()},
        return_projected_pooled=False,
    )
    weights = prefixed(weights_of(folder / "text_encoder"), "text_model.")
    weights["text_projection.weight"] = torch.eye(width)  # Its CLIPTextModel has none.
    target = SimpleNamespace(
        params={},
        clip=partial(comfy.sd1_clip.SD1ClipModel, clip_model=model),
        tokenizer=partial(comfy.sd1_clip.SD1Tokenizer, tokenizer=tokenizer),
    )
    clip = comfy.sd.CLIP(target, parameters=sum(value.numel() for value in weights.values()))
    missing, unexpected = clip.load_sd(weights)
    if missing or unexpected:
        raise ValueError(f"Text encoder: {missing} missing, {unexpected} unexpected.")
    return clip


def load_clip_vision(folder: Path) -> Any:
    """Return the image encoder as a CLIP_VISION."""
    part = folder / "image_encoder"
    vision = comfy.clip_vision.ClipVisionModel(str(part / "config.json"))
    colours = json.loads((folder / "feature_extractor/preprocessor_config.json").read_text())
    vision.image_mean, vision.image_std = colours["image_mean"], colours["image_std"]
    missing, unexpected = vision.load_sd(prefixed(weights_of(part), "vision_model."))
    if unexpected or any("projection" not in name for name in missing):
        raise ValueError(f"Image encoder: {missing} missing, {unexpected} unexpected.")
    return vision


class PriorConfig(comfy.supported_models_base.BASE):
    """A model that no table of ComfyUI knows."""

    unet_extra_config: ClassVar[dict[str, Any]] = {}


class TextModel(comfy.clip_model.CLIPTextModel):
    """ComfyUI's CLIP text model, with a vocabulary of its own size."""

    def __init__(self, config: dict[str, Any], dtype: Any, device: Any, operations: Any) -> None:
        super().__init__(config, dtype, device, operations)
        size = config["vocab_size"], config["hidden_size"]
        self.set_input_embeddings(operations.Embedding(*size, dtype=dtype, device=device))


class PriorVAE(comfy.sd.VAE):
    """A VAE around an autoencoder of diffusers."""

    def __init__(self, part: Path) -> None:
        super().__init__(sd={})  # Sets ComfyUI's defaults; there is no layout of its own for it.
        config = config_of(part)
        network = AutoencoderTiny.from_pretrained(part)
        self.first_stage_model = Autoencoder(network.float().eval())
        self.latent_channels = config["latent_channels"]
        halvings = len(config["encoder_block_out_channels"]) - 1
        self.downscale_ratio = self.upscale_ratio = 2**halvings
        self.device = comfy.model_management.vae_device()
        self.output_device = comfy.model_management.intermediate_device()
        self.vae_dtype = torch.float32
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model,
            load_device=self.device,
            offload_device=comfy.model_management.vae_offload_device(),
        )

    def latent_format(self) -> comfy.latent_formats.LatentFormat:
        """Return what ComfyUI's models must know of the latents."""
        latents = PriorLatents()
        config = self.first_stage_model.network.config
        latents.scale_factor = config.scaling_factor
        latents.shift_factor = getattr(config, "shift_factor", None) or 0.0
        latents.latent_channels = self.latent_channels
        latents.spacial_downscale_ratio = self.downscale_ratio
        return latents


class PriorLatents(comfy.latent_formats.LatentFormat):
    """Latents with a shift and a scale."""

    shift_factor = 0.0

    def process_in(self, latent: Tensor) -> Tensor:
        return (latent - self.shift_factor) * self.scale_factor

    def process_out(self, latent: Tensor) -> Tensor:
        return latent / self.scale_factor + self.shift_factor


class Autoencoder(nn.Module):
    """An autoencoder of diffusers with the methods that ComfyUI calls."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def encode(self, pixels: Tensor) -> Tensor:
        return self.network.encode(pixels).latents

    def decode(self, latents: Tensor) -> Tensor:
        return self.network.decode(latents).sample


class WholeMultiple(Fraction):
    """A width as a multiple of the first one, such as 5/4 of 96, that multiplies to an int."""

    def __mul__(self, other: Any) -> int:
        return int(super().__mul__(other))

    __rmul__ = __mul__


SPECIAL = {"start": "bos", "end": "eos", "pad": "pad"}


def unet_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return ComfyUI's configuration of a diffusers UNet2DConditionModel."""
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    down = [int("CrossAttn" in kind) for kind in config["down_block_types"]]
    up = [int("CrossAttn" in kind) for kind in reversed(config["up_block_types"])]
    return {
        "image_size": config["sample_size"],
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [WholeMultiple(width, widths[0]) for width in widths],
        "num_res_blocks": [layers] * len(widths),
        "transformer_depth": [depth for depth in down for _ in range(layers)],
        "transformer_depth_output": [depth for depth in up for _ in range(layers + 1)],
        "transformer_depth_middle": 1,
        "context_dim": config["cross_attention_dim"],
        "num_heads": config["attention_head_dim"],  # diffusers' old name for their number.
        "num_head_channels": -1,
        "use_linear_in_transformer": config["use_linear_projection"],
        "use_spatial_transformer": True,
    }


def grouped_norm(
    groups: int, num_groups: int, num_channels: int, **options: Any
) -> comfy.ops.disable_weight_init.GroupNorm:
    """Return a norm of as many groups as the prior has, where ComfyUI asks for 32."""
    return comfy.ops.disable_weight_init.GroupNorm(groups, num_channels, **options)


def config_of(part: Path) -> dict[str, Any]:
    return json.loads((part / "config.json").read_text(encoding="utf-8"))


def weights_of(part: Path) -> dict[str, Tensor]:
    (path,) = part.glob("*.safetensors")
    return load_file(path)


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return weights under the names that ComfyUI knows; newer transformers leave a prefix out."""
    return {prefix + name.removeprefix(prefix): value for name, value in weights.items()}
