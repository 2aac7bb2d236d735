"""The prior's U-Net and text encoder, trained together on captioned latents."""

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..captions import MAX_TOKENS, write_tokenizer
from .autoencoder import CHANNELS
from .dataset import Material
from .session import Course, Learner

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


def train_denoiser(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    material: Material,
    weights: Tensor,
    course: Course,
    batch: int = BATCH,
) -> Learner:
    """Train both by v-prediction; return them and their average. Errors are weighted ``(h, w)``."""
    learner = Learner(nn.ModuleList([unet, text_encoder]), course, EMA)
    device = course.device
    kept = new_scheduler().alphas_cumprod.to(device)
    alphas, sigmas = kept.sqrt(), (1 - kept).sqrt()
    weights = weights.to(device)
    # On the device, as a GPU would wait for noise from the processor.
    generator = torch.Generator(device).manual_seed(course.seed)
    while learner.goes_on():
        clean, ids = material.batch(batch, generator)
        times = torch.randint(len(alphas), (batch,), generator=generator, device=device)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        alpha, sigma = alphas[times].view(-1, 1, 1, 1), sigmas[times].view(-1, 1, 1, 1)
        noisy = (alpha * clean + sigma * noise).contiguous(memory_format=torch.channels_last)
        velocity = alpha * noise - sigma * clean
        context = text_encoder(ids).last_hidden_state
        predicted = unet(noisy, times, context).sample
        learner.step((weights * (predicted - velocity).square()).mean(), batch)
    return learner
