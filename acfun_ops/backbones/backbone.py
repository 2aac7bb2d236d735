"""What training needs of a diffusion model; each framework brings its own Backbone."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..method.concrete_fusion import InsertAt
from ..method.diffusion import Prediction
from ..method.injection import Site

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class InsertPoint:
    """A block that an insert can hang on."""

    module: Site
    """Its output is the block's residual branch."""
    channels: int
    """c of that output."""


@dataclass(frozen=True)
class Context:
    """An encoded prompt, or one for each latent of a batch."""

    tokens: Tensor
    """``(1, t, d)`` or ``(b, t, d)``, what the network attends to."""
    pooled: Tensor | None = None
    """``(1, p)`` or ``(b, p)`` for SDXL."""
    negative: tuple[bool, ...] = (False,)
    """Whether it is what guidance leads away from, of all latents or of each: patches of a model
    may act on one of the two only."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else the encoder returned, by the framework's names, such as a mask of the tokens."""
    is_joint: bool = False
    """Whether image and prompt attend together, as in a transformer: a prompt that is repeated to
    the length of another then is another prompt."""
    members: tuple["Context", ...] = ()
    """Of a joint batch the single prompts, in place of all else."""


class Backbone(Protocol):
    """A frozen text-to-image model; none of its weights ever requires a gradient."""

    @property
    def family(self) -> str:
        """The base family, a key of ``model_families``."""

    @property
    def fingerprint(self) -> str:
        """A hash of the checkpoint, hex; equal for the same weights."""

    @property
    def device(self) -> torch.device:
        """Where the U-Net computes."""

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the U-Net computes in when precision is "auto"."""

    @property
    def prediction(self) -> Prediction:
        """What the U-Net predicts."""

    @property
    def sigmas(self) -> Tensor:
        """The rising noise schedule ``(t,)``, float32, on ``device``."""

    @property
    def native_side(self) -> int:
        """The picture side in pixels that the model was made for."""

    def latents_shape(self, side: int) -> tuple[int, int, int, int]:
        """Return the shape of the latents ``(1, c, h, w)`` of a square of so many pixels."""

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Encode RGB squares ``(b, s, s, 3)`` in [0, 1] to U-Net latents ``(b, c, h, w)``."""

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode U-Net latents ``(b, c, h, w)`` to pictures ``(b, s, s, 3)`` in [0, 1]."""

    def preview(self, latents: Tensor) -> Tensor:
        """Return a quick look at U-Net latents ``(1, c, h, w)``: ``(1, s, s, 3)`` in [0, 1], CPU.

        It may be coarser than :meth:`decode_latents` and must not displace the U-Net for long.
        """

    def style_tokens(self, pictures: Tensor) -> Tensor:
        """Return CLIP image patch tokens (penultimate layer) ``(b, n, di)`` of RGB squares."""

    def word_vectors(self, word: str) -> dict[str, Tensor]:
        """Return a word's mean token embedding ``(d,)`` in each text encoder, by encoder name.

        Raises:
            ACFunError: the word has no tokens.
        """

    def encode_prompt(
        self, prompt: str, pseudo_word: str, vectors: Mapping[str, Tensor]
    ) -> Context:
        """Encode a prompt, differentiably in the pseudo-word's vectors, wherever it stands."""

    def insert_points(self, where: InsertAt) -> dict[str, InsertPoint]:
        """Return the blocks for inserts by canonical name (``input_blocks.1.0``, ``layers.3``)."""

    def self_attentions(self) -> list[nn.Module]:
        """Return self-attentions in order, with ``to_q``, ``to_k`` and ``to_v``.

        They are those of a U-Net's decoder, or of all of a transformer's blocks.
        """

    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        """Return clean latents for ``noisy = latent + sigma * noise``, ``(b, c, h, w)``, float32.

        A context's batch of one serves the whole batch. Differentiable in the context and in
        whatever is hooked onto the insert points.
        """

    def ignore_patches(self) -> AbstractContextManager[None]:
        """While active, the U-Net runs without what others have patched into its calls.

        Patches on weights stay, and its own noise schedule.
        """

    def autocast(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """While active, the U-Net computes in ``dtype``."""

    def gradient_checkpointing(self) -> AbstractContextManager[None]:
        """While active, U-Net blocks are recomputed in the backward pass to save memory."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tell whether an error means that memory ran out, so that work can go on after it.

        Where the framework reports such errors late, what is still pending is discarded.
        """


def fingerprint_of(weights: Iterable[tuple[str, Tensor]], settings: str = "") -> str:
    """Return the fingerprint of a model: a SHA-256 of the first 64 values of each weight, in hex.

    Args:
        weights: by name, in an order that is part of the hash, as the names are.
        settings: what else tells one model from another.
    """
    digest = hashlib.sha256(settings.encode())
    for name, weight in weights:
        sample = weight.detach().flatten()[:64].float().cpu()
        digest.update(name.encode() + sample.numpy().tobytes())
    return digest.hexdigest()
