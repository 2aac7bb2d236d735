"""The prior's U-Net and text encoder, trained together on captioned latents."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .autoencoder import COMPONENTS
from .captions import MAX_TOKENS, write_tokenizer

WIDTH = 96
EMA = 0.999


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


def new_unet() -> UNet2DConditionModel:
    """Return the U-Net in SD's layout with two resolutions, the lower with attention, untrained."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=COMPONENTS,
        out_channels=COMPONENTS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(96, 120),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=12,
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


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One run of training.

    latents: ``(n, c, h, w)``. ids: of the captions ``(n, t)``. weights: ``(c, h, w)``, of the
    squared error. horizon: the step at which the learning rate would be next to nothing. log: gets
    a line every hundred steps; beside it, every thousand steps, the average.
    """

    latents: Tensor
    ids: Tensor
    weights: Tensor
    steps: int
    horizon: int
    batch: int
    learning_rate: float
    seed: int
    log: Path


def train_denoiser(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, lesson: Lesson
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train both by v-prediction; return their moving averages."""
    steps, latents = lesson.steps, lesson.latents
    scheduler = new_scheduler()
    alphas = scheduler.alphas_cumprod.sqrt()
    sigmas = (1 - scheduler.alphas_cumprod).sqrt()
    generator = torch.Generator().manual_seed(lesson.seed)
    both = nn.ModuleList([unet, text_encoder])
    average = copy.deepcopy(both).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        both.parameters(), lr=lesson.learning_rate, weight_decay=0.01, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1, step / 100) * (0.02 + 0.98 * math.cos(step / lesson.horizon * math.pi / 2) ** 2)
        ),
    )
    total = 0.0
    with lesson.log.open("a", encoding="utf-8") as log:
        for step in tqdm(range(1, steps + 1), "denoiser", mininterval=20):
            chosen = torch.randint(len(latents), (lesson.batch,), generator=generator)
            times = torch.randint(len(alphas), (lesson.batch,), generator=generator)
            clean = latents[chosen]
            noise = torch.randn(clean.shape, generator=generator)
            alpha, sigma = alphas[times].view(-1, 1, 1, 1), sigmas[times].view(-1, 1, 1, 1)
            noisy = (alpha * clean + sigma * noise).contiguous(memory_format=torch.channels_last)
            context = text_encoder(lesson.ids[chosen]).last_hidden_state
            predicted = unet(noisy, times, context).sample
            loss = (lesson.weights * (predicted - alpha * noise + sigma * clean).square()).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(both.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            decay = min(EMA, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(both.parameters()), 1 - decay)
            total += float(loss.detach())
            if step % 100 == 0:
                log.write(f"denoiser step {step} of {steps}: mean loss {total / 100:.4f}\n")
                log.flush()
                total = 0.0
            if step % 1000 == 0:
                average[0].save_pretrained(lesson.log.parent / "latest" / "unet")
                average[1].save_pretrained(lesson.log.parent / "latest" / "text_encoder")
    return average[0], average[1]
