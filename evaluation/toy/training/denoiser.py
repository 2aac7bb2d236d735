"""The prior's U-Net and text encoder, and the drawings that they learn from together."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..captions import MAX_TOKENS, write_tokenizer
from ..drawings import CHUNK, SEED, Drawings, draw_chunk
from ..styles import TEXTURES
from .autoencoder import CHANNELS, latents_of
from .session import Course, Learner

SIDE = 16


class Chunks:
    """Chunks of a set of ``count`` drawings that ``workers`` processes draw in its order."""

    def __init__(self, count: int, workers: int) -> None:
        # A process that is forked after CUDA has started cannot be relied on.
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, mp_context=spawn)
        draw = partial(draw_chunk, count=count, seed=SEED, textures=TEXTURES)
        self._asked = [self._pool.submit(draw, at) for at in range(0, count, CHUNK)]

    def collect(self, wait: bool) -> Iterator[Drawings]:
        """Yield what is drawn since the last call; wait for the first if asked to."""
        while self._asked and (wait or self._asked[0].done()):
            yield self._asked.pop(0).result()
            wait = False

    def close(self) -> None:
        """End the processes, each after the chunk that it is at."""
        self._pool.shutdown(cancel_futures=True)


class Material:
    """Latents of drawings and their captions' ids, on the device of the autoencoder.

    A GPU learns faster than the cores beside it draw, so other processes draw meanwhile, and it
    sees each drawing several times, the first ones most often. They are those of the kept set and
    of the same seed, and then more, ``count`` at most. Without chunks all are added at once.
    """

    def __init__(
        self,
        model: AutoencoderTiny,
        tokenizer: CLIPTokenizer,
        count: int,
        chunks: Chunks | None = None,
    ) -> None:
        device = next(model.parameters()).device
        self._model, self._tokenizer, self._chunks = model, tokenizer, chunks
        self._latents = torch.empty(count, CHANNELS, SIDE, SIDE, dtype=torch.half, device=device)
        self._ids = torch.empty(count, MAX_TOKENS, dtype=torch.long, device=device)
        self.known = 0

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return latents ``(size, c, h, w)`` and ids ``(size, t)`` of what is drawn so far."""
        if self._chunks is not None:
            for chunk in self._chunks.collect(wait=self.known == 0):
                self.add(chunk)
        device = self._ids.device
        chosen = torch.randint(self.known, (size,), generator=generator, device=device)
        return self._latents[chosen].float(), self._ids[chosen]

    def add(self, drawn: Drawings) -> None:
        """Encode drawings and let the next batches see them."""
        end = self.known + len(drawn.captions)
        self._latents[self.known : end] = latents_of(self._model, drawn.images).half()
        self._ids[self.known : end] = token_ids(self._tokenizer, drawn.captions)
        self.known = end


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return captions as padded ids ``(n, t)``."""
    ids: Tensor = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")[
        "input_ids"
    ]
    return ids


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
    """Train both by v-prediction, until the course is over; return them and their average.

    weights: how much the squared error of each latent counts ``(h, w)``.
    """
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
