"""What the U-Net learns from: drawings that are there, and those made while a GPU learns."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from transformers import CLIPTokenizer

from ..captions import MAX_TOKENS
from ..drawings import CHUNK, SEED, Drawings, draw_chunk
from ..styles import TEXTURES
from .autoencoder import CHANNELS, latents_of

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
