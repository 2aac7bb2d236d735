"""The prior's U-Net and text encoder, and the drawings that they learn from together."""

import multiprocessing
from collections.abc import Callable, Iterator
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
# Returns how far off predictions are ``(n, c, h, w)``, of clean latents, captions' ids, and noise.
Errors = Callable[[Tensor, Tensor, torch.Generator], Tensor]


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


def new_unet() -> UNet2DConditionModel:
    """Return the U-Net in SD's layout with two resolutions, both with attention, untrained."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(64, 128),
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


def teach(
    model: nn.Module,
    errors: Errors,
    material: Material,
    weights: Tensor,
    course: Course,
    batch: int = BATCH,
) -> Learner:
    """Train a model until the course is over; return it and its average.

    weights: how much the square of each latent's error counts ``(h, w)``.
    """
    learner = Learner(model, course, EMA)
    weights = weights.to(course.device)
    # On the device, as a GPU would wait for noise from the processor.
    generator = torch.Generator(course.device).manual_seed(course.seed)
    while learner.goes_on():
        off = errors(*material.batch(batch, generator), generator)
        learner.step((weights * off.square()).mean(), batch)
    return learner


def denoiser_errors(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> Errors:
    """Return what both are trained by: v-prediction."""
    kept = new_scheduler().alphas_cumprod.to(unet.device)
    alphas, sigmas = kept.sqrt(), (1 - kept).sqrt()

    def errors(clean: Tensor, ids: Tensor, generator: torch.Generator) -> Tensor:
        drawn = {"generator": generator, "device": clean.device}
        times = torch.randint(len(alphas), (len(clean),), **drawn)
        noise = torch.randn(clean.shape, **drawn)
        alpha, sigma = alphas[times].view(-1, 1, 1, 1), sigmas[times].view(-1, 1, 1, 1)
        noisy = (alpha * clean + sigma * noise).contiguous(memory_format=torch.channels_last)
        context = text_encoder(ids).last_hidden_state
        return unet(noisy, times, context).sample - (alpha * noise - sigma * clean)

    return errors
