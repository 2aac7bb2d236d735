"""The prior's U-Net and text encoder, trained together on captioned latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .autoencoder import CHANNELS, Latents
from .captions import MAX_TOKENS, write_tokenizer
from .lesson import Course, Learner

WIDTH = 96
EMA = 0.999
BATCH = 48


def new_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write the tokenizer's files and return it."""
    write_tokenizer(folder)
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=MAX_TOKENS
    )


def new_text_encoder(words: int) -> CLIPTextModel:
    """Return the text encoder, untrained; the last two of its ``words`` frame a prompt."""
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
        projection_dim=WIDTH,
    )
    return CLIPTextModel(config)


def new_unet(
    widths: tuple[int, int] = (64, 128), attention_at_16: bool = True
) -> UNet2DConditionModel:
    """Return the U-Net in SD's layout with two resolutions, both with attention, untrained."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=(
            "CrossAttnDownBlock2D" if attention_at_16 else "DownBlock2D",
            "CrossAttnDownBlock2D",
        ),
        up_block_types=(
            "CrossAttnUpBlock2D",
            "CrossAttnUpBlock2D" if attention_at_16 else "UpBlock2D",
        ),
        block_out_channels=widths,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    """Return the cosine schedule that the U-Net is trained on."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )


def token_ids(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Return captions as padded ids ``(n, t)``."""
    ids: Tensor = tokenizer(
        list(captions), padding="max_length", truncation=True, return_tensors="pt"
    )["input_ids"]
    return ids


@dataclass(frozen=True)
class Material:
    """What is learnt from: latents of ``n`` pictures, of their captions the ids ``(n, t)``.

    weights: how much the squared error counts ``(h, w)``.
    """

    latents: Latents
    ids: Tensor
    weights: Tensor


def train_denoiser(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, material: Material, course: Course
) -> Learner:
    """Train both by v-prediction, until the course is over; return them and their average."""
    learner = Learner(nn.ModuleList([unet, text_encoder]), course, EMA)
    latents, device = material.latents, course.device
    kept = new_scheduler().alphas_cumprod
    alphas, sigmas = kept.sqrt(), (1 - kept).sqrt()
    weights = material.weights.to(device)
    generator = torch.Generator().manual_seed(course.seed)
    while learner.goes_on():
        chosen = torch.randint(len(latents), (BATCH,), generator=generator)
        times = torch.randint(len(alphas), (BATCH,), generator=generator)
        clean = latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        alpha, sigma = alphas[times].view(-1, 1, 1, 1), sigmas[times].view(-1, 1, 1, 1)
        noisy = (alpha * clean + sigma * noise).contiguous(memory_format=torch.channels_last)
        velocity = (alpha * noise - sigma * clean).to(device)
        context = text_encoder(material.ids[chosen].to(device)).last_hidden_state
        predicted = unet(noisy.to(device), times.to(device), context).sample
        learner.step((weights * (predicted - velocity).square()).mean(), BATCH)
    return learner
