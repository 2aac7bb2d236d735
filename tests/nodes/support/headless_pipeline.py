"""One set of random weights twice: as a diffusers folder and as a checkpoint that ComfyUI loads.

The U-Net is made by diffusers and renamed for ComfyUI by ComfyUI's own table; the text encoder and
the vision model are those of the tiny checkpoint, with the few layers that are kept of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import comfy.sd1_clip
import comfy.utils
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from models_dir import ModelsDir
from safetensors.torch import load_file, save_file
from short_encoders import LAYERS
from tiny_models import SD1_UNET
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

KEY = "headless"
_UNET = "model.diffusion_model."
_TEXT = "cond_stage_model.transformer."


def sd1_unet(seed: int = 0) -> UNet2DConditionModel:
    """Return diffusers' U-Net of the widths and depths of the tiny SD1 checkpoint."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(320, 320),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2,
            attention_head_dim=8,
            cross_attention_dim=768,
        )
    return unet.requires_grad_(False)


def ldm_names() -> dict[str, str]:
    """Return ComfyUI's table of diffusers' names to LDM names for this U-Net."""
    return comfy.utils.unet_to_diffusers(SD1_UNET)


def write_both(folder: Path, models: ModelsDir) -> Path:
    """Write the diffusers folder, and the checkpoint for ComfyUI; return the checkpoint's path."""
    unet = sd1_unet()
    unet.save_pretrained(folder / "unet")
    checkpoint = load_file(models.path("sd1"))
    names = ldm_names()
    renamed = {_UNET + names[name]: tensor for name, tensor in unet.state_dict().items()}
    assert renamed.keys() == {name for name in checkpoint if name.startswith(_UNET)}
    path = models.path("sd1").with_name("headless.safetensors")
    save_file(checkpoint | renamed, path)
    _write_encoders(folder, checkpoint, load_file(models.path("clip_vision")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKL(
            block_out_channels=(8,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
        )
    vae.save_pretrained(folder / "vae")
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    DDPMScheduler(**betas).save_pretrained(folder / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index))
    return path


def _write_encoders(
    folder: Path, checkpoint: dict[str, Tensor], vision_state: dict[str, Tensor]
) -> None:
    comfy_folder = Path(comfy.sd1_clip.__file__).parent
    shutil.copytree(comfy_folder / "sd1_tokenizer", folder / "tokenizer")
    text = CLIPTextModel(_config(CLIPTextConfig, comfy_folder / "sd1_clip_config.json"))
    state = {n.removeprefix(_TEXT): t for n, t in checkpoint.items() if n.startswith(_TEXT)}
    _fill(text, state, "text_model.").save_pretrained(folder / "text_encoder")
    config = _config(CLIPVisionConfig, comfy_folder / "clip_vision_config_vitl.json")
    vision = _fill(CLIPVisionModel(config), vision_state, "vision_model.")
    vision.save_pretrained(folder / "image_encoder")


def _config(kind: Any, path: Path) -> Any:
    settings = json.loads(path.read_text()) | {"num_hidden_layers": LAYERS}
    return kind(**settings)


def _fill(model: nn.Module, state: dict[str, Tensor], prefix: str) -> Any:
    """Load a CLIP state; transformers has the prefix in some versions and not in others."""
    wanted = {name: name.removeprefix(prefix) for name in model.state_dict()}
    model.load_state_dict(
        {
            name: state[prefix + plain].float()
            for name, plain in wanted.items()
            if not plain.endswith("position_ids")
        },
        strict=False,
    )
    return model
