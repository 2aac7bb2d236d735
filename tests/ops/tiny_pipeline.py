"""Small random diffusers pipelines in folders of the layout that real ones have.

Pictures are 32 pixels wide at home, latents 16, and the tokenizer knows single letters only.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

WIDTH, IMAGE_WIDTH, LENGTH = 96, 96, 32
START, END = "<|startoftext|>", "<|endoftext|>"
UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 2,
    "cross_attention_dim": WIDTH,
}
# The blocks of UNET by hand: one ResBlock per level down, a downsampler, two per level up.
RESBLOCKS = {
    "input_blocks.1.0": 16,
    "input_blocks.3.0": 32,
    "middle_block.0": 32,
    "middle_block.2": 32,
    "output_blocks.0.0": 32,
    "output_blocks.1.0": 32,
    "output_blocks.2.0": 16,
    "output_blocks.3.0": 16,
}
ATTENTIONS = {
    "input_blocks.1.1": 16,
    "middle_block.1": 32,
    "output_blocks.2.1": 16,
    "output_blocks.3.1": 16,
}


def write_pipeline(
    folder: Path, prediction: str = "v_prediction", seed: int = 0, **unet: Any
) -> Path:
    """Write a pipeline of one text encoder and an image encoder; return its folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _save_common(folder, "StableDiffusionPipeline", prediction, UNET | unet)
        CLIPTextModel(_text_config(WIDTH)).save_pretrained(folder / "text_encoder")
    return folder


def write_sdxl_pipeline(folder: Path, seed: int = 0, **unet: Any) -> Path:
    """Write a pipeline of two text encoders, as SDXL has them; return its folder."""
    pooled, sizes = 24, 6 * 8
    conditions = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": pooled + sizes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _save_common(folder, "StableDiffusionXLPipeline", "epsilon", UNET | conditions | unet)
        CLIPTextModel(_text_config(64)).save_pretrained(folder / "text_encoder")
        second = CLIPTextModelWithProjection(_text_config(32, projection_dim=pooled))
        second.save_pretrained(folder / "text_encoder_2")
    _save_tokenizer(folder / "tokenizer_2")
    return folder


def _save_common(folder: Path, pipeline: str, prediction: str, unet: dict[str, Any]) -> None:
    network = UNet2DConditionModel(**unet)
    # Half of torch's gain leaves a random network's output too small to tell errors by.
    network.conv_out.weight.data.mul_(4)
    network.save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    ).save_pretrained(folder / "vae")
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = DDPMScheduler(prediction_type=prediction, **betas)
    scheduler.save_pretrained(folder / "scheduler")
    CLIPVisionModelWithProjection(vision_config()).save_pretrained(folder / "image_encoder")
    _save_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))


def vision_config() -> CLIPVisionConfig:
    """Return the configuration of the small image encoder: 17 tokens, IMAGE_WIDTH wide."""
    return CLIPVisionConfig(
        hidden_size=IMAGE_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )


def _text_config(width: int, **options: Any) -> CLIPTextConfig:
    vocabulary = _vocabulary()
    return CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
        **options,
    )


def _vocabulary() -> dict[str, int]:
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    return {token: number for number, token in enumerate(tokens)}


def _save_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps(_vocabulary()), encoding="utf-8")
    merges.write_text("#version: 0.2\n", encoding="utf-8")
    CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH).save_pretrained(folder)
