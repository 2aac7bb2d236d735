"""What the U-Net learns from: kept drawings, or drawings made while a GPU learns."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Protocol

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from transformers import CLIPTokenizer

from ..captions import MAX_TOKENS
from ..drawings import CHUNK, SEED, Drawings, draw_chunk
from ..styles import TEXTURES
from .autoencoder import CHANNELS, Latents, latents_of

SIDE = 16


class Material(Protocol):
    """Latents with their captions' ids."""

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return latents ``(size, c, h, w)`` and ids ``(size, t)``, drawn by the generator."""


class KeptMaterial:
    """A set that is there: latents of its pictures, and of their captions the ids ``(n, t)``."""

    def __init__(self, latents: Latents, ids: Tensor) -> None:
        self._latents, self._ids = latents, ids

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return latents and ids on the CPU."""
        chosen = torch.randint(len(self._latents), (size,), generator=generator)
        return self._latents[chosen], self._ids[chosen]


class GrowingMaterial:
    """A set that other processes draw meanwhile, on the device of the autoencoder.

    A GPU learns faster than the cores beside it draw, so it sees each drawing several times, the
    first ones most often. They are those of the kept set and of the same seed, and then more.

    Args:
        model: the autoencoder.
        tokenizer: of the captions.
        chunks: chunks of the set, in its order, as far as they are drawn when asked for.
        count: of drawings at most.
    """

    def __init__(
        self, model: AutoencoderTiny, tokenizer: CLIPTokenizer, chunks: "Chunks", count: int
    ) -> None:
        device = next(model.parameters()).device
        self._model, self._tokenizer, self._chunks = model, tokenizer, chunks
        self._latents = torch.empty(count, CHANNELS, SIDE, SIDE, dtype=torch.half, device=device)
        self._ids = torch.empty(count, MAX_TOKENS, dtype=torch.long, device=device)
        self.known = 0

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return latents and ids on the device, of what is drawn so far."""
        for chunk in self._chunks.collect(wait=self.known == 0):
            self._add(chunk)
        device = self._ids.device
        chosen = torch.randint(self.known, (size,), generator=generator, device=device)
        return self._latents[chosen].float(), self._ids[chosen]

    def _add(self, chunk: Drawings) -> None:
        end = self.known + len(chunk.captions)
        self._latents[self.known : end] = latents_of(self._model, chunk.images).half()
        self._ids[self.known : end] = token_ids(self._tokenizer, chunk.captions)
        self.known = end


class Chunks:
    """Chunks of a set of ``count`` drawings that ``workers`` processes draw in its order."""

    def __init__(self, count: int, workers: int) -> None:
        # A process that is forked after CUDA has started cannot be relied on.
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, mp_context=spawn)
        draw = partial(draw_chunk, count=count, seed=SEED, textures=TEXTURES)
        self._asked = [self._pool.submit(draw, at) for at in range(0, count, CHUNK)]

    def collect(self, wait: bool) -> Iterator[Drawings]:
        """Yield what is drawn since the last call; wait for the first if asked to.

        Raises:
            BrokenProcessPool: a process died, for example of too little memory.
        """
        while self._asked and (wait or self._asked[0].done()):
            yield self._asked.pop(0).result()
            wait = False

    def close(self) -> None:
        """End the processes, each after the chunk that it is at."""
        self._pool.shutdown(cancel_futures=True)


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return captions as padded ids ``(n, t)``."""
    ids: Tensor = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")[
        "input_ids"
    ]
    return ids
