"""A Backbone of a few thousand random weights: a whole diffusion model, only small.

Pictures are 64 pixels wide, latents 8, prompts 8 tokens, style pictures 16 CLIP-like tokens. It can
run out of memory, and give NaN, at a chosen call.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from einops import rearrange
from tiny_unet import ATTENTIONS, RESBLOCKS, TinyUNet
from torch import Tensor, nn
from torch.nn import functional as F

from acfun_ops.backbones.backbone import Context, InsertPoint
from acfun_ops.errors import ACFunError, is_out_of_memory
from acfun_ops.method.concrete_fusion import InsertAt
from acfun_ops.method.diffusion import Prediction

TOKENS, WIDTH, IMAGE_WIDTH, VOCABULARY = 8, 16, 24, 64
SIDE = 64


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What shall go wrong. Calls are those of ``denoise`` with gradients, counted from 1.

    memory_at: from this call on memory runs out in the U-Net, unless it is checkpointed.
    memory_in_backward: it then runs out half-way through the backward pass instead. nan_at: this
    call returns NaN. bad_gradient_at: this call's gradient is infinite, its result is not.
    bad_gradient_from: as all from this one on are, 0 is none. memory_in_previews: memory runs out
    in any call without gradients.
    """

    memory_at: int | None = None
    memory_in_backward: bool = False
    nan_at: int | None = None
    bad_gradient_at: int | None = None
    bad_gradient_from: int = 0
    memory_in_previews: bool = False


class TinyTextEncoder(nn.Module):
    """A token table and one attention layer; differentiable in the embeddings of its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.randn(TOKENS, WIDTH))
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.pool = nn.Linear(WIDTH, WIDTH)

    def vector(self, word: str) -> Tensor:
        """Return a word's row of the token table."""
        return self.table.weight[zlib.crc32(word.encode()) % VOCABULARY]

    def forward(self, words: list[str], replaced: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the embedding ``(1, t, d)`` of words, some with vectors of their own; pooled."""
        padded = [*words, *[""] * TOKENS][:TOKENS]
        rows = [replaced.get(word, self.vector(word)) for word in padded]
        embedding = torch.stack(rows) + self.positions
        scores = torch.softmax(embedding @ embedding.T / math.sqrt(WIDTH), dim=-1)
        tokens = F.layer_norm(embedding + torch.tanh(self.mix(scores @ embedding)), [WIDTH])
        return tokens[None], self.pool(tokens.mean(dim=0))[None]


class TinyBackbone:
    """A frozen model for tests; equal seeds give equal weights.

    Args:
        seed: of the weights.
        prediction: what the U-Net's output means.
        encoders: "l" as SD1; "l" and "g" as SDXL, with a pooled embedding.
        compute_dtype: what it says it computes in.
        faults: what shall go wrong.
    """

    family = "sd1"
    native_side = SIDE

    def __init__(
        self,
        seed: int = 0,
        prediction: Prediction = "noise",
        encoders: tuple[str, ...] = ("l",),
        compute_dtype: torch.dtype = torch.float32,
        faults: Faults = Faults(),
    ) -> None:
        self.prediction, self.compute_dtype, self.faults = prediction, compute_dtype, faults
        self.device = torch.device("cpu")
        self.fingerprint = f"{seed:02x}{prediction}{len(encoders)}".encode().hex()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        kept = torch.cumprod(1 - betas, dim=0)
        self.sigmas = torch.sqrt((1 - kept) / kept).float()
        pooled_width = WIDTH if len(encoders) > 1 else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.unet = TinyUNet(WIDTH * len(encoders), pooled_width)
            self.texts = nn.ModuleDict({name: TinyTextEncoder() for name in encoders})
            self.vae = nn.init.orthogonal_(torch.empty(4, 8 * 8 * 3))
            self.vision = torch.randn(16 * 16 * 3, IMAGE_WIDTH) / 16
        self.models = nn.ModuleDict({"unet": self.unet, "texts": self.texts}).requires_grad_(False)
        self.calls = 0

    def latents_shape(self, side: int) -> tuple[int, int, int, int]:
        return 1, 4, side // 8, side // 8

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        patches = rearrange(pictures, "b (h i) (w j) c -> b h w (i j c)", i=8, j=8)
        return torch.einsum("bhwp,cp->bchw", 2 * patches - 1, self.vae) / 4

    def decode_latents(self, latents: Tensor) -> Tensor:
        patches = torch.einsum("bchw,cp->bhwp", 4 * latents, self.vae)
        pictures = rearrange(patches, "b h w (i j c) -> b (h i) (w j) c", i=8, j=8)
        return ((pictures + 1) / 2).clamp(0, 1)

    def style_tokens(self, pictures: Tensor) -> Tensor:
        patches = rearrange(pictures, "b (h i) (w j) c -> b (h w) (i j c)", i=16, j=16)
        return (2 * patches - 1) @ self.vision

    def word_vectors(self, word: str) -> dict[str, Tensor]:
        if not word.strip():
            raise ACFunError(f"The initial word '{word}' has no token. Use a common word.")
        return {name: text.vector(word).clone() for name, text in self.texts.items()}

    def encode_prompt(
        self, prompt: str, pseudo_word: str, vectors: Mapping[str, Tensor]
    ) -> Context:
        encoded = [
            text(prompt.split(), {pseudo_word: vectors[name]} if name in vectors else {})
            for name, text in self.texts.items()
        ]
        tokens = torch.cat([tokens for tokens, _ in encoded], dim=-1)
        return Context(tokens, encoded[-1][1] if len(encoded) > 1 else None)

    def insert_points(self, where: InsertAt) -> dict[str, InsertPoint]:
        resblocks = where == "resblock"
        modules = self.unet.resblocks() if resblocks else self.unet.attentions()
        widths = RESBLOCKS if resblocks else ATTENTIONS
        return {name: InsertPoint(modules[name], widths[name]) for name in modules}

    def self_attentions(self) -> list[nn.Module]:
        return [self.unet.own]

    def preview(self, latents: Tensor) -> Tensor:
        return self.decode_latents(latents)

    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        self._fail_for_memory()
        scale, level = 1 / math.sqrt(1 + sigma**2), torch.tensor(sigma).log()
        predicted = self.unet(noisy * scale, level, context.tokens, context.pooled).float()
        if self.prediction == "noise":
            # Untrained, this U-Net would never learn what any trained one does: to hand noise on.
            return self._poisoned(noisy - sigma * (predicted + noisy * scale))
        return self._poisoned(noisy * scale**2 - sigma * scale * predicted)

    def ignore_patches(self) -> AbstractContextManager[None]:
        return nullcontext()

    def autocast(self, dtype: torch.dtype) -> torch.autocast:
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    @contextmanager
    def gradient_checkpointing(self) -> Iterator[None]:
        self.unet.checkpointed = True
        try:
            yield
        finally:
            self.unet.checkpointed = False

    def is_out_of_memory(self, error: BaseException) -> bool:
        return is_out_of_memory(error)

    def _fail_for_memory(self) -> None:
        faults = self.faults
        if not torch.is_grad_enabled():
            self.unet.on_gradient = None
            if faults.memory_in_previews:
                raise torch.OutOfMemoryError("no memory for a preview")
            return
        self.calls += 1
        at, is_checkpointed = faults.memory_at, self.unet.checkpointed
        is_full = at is not None and self.calls >= at and not is_checkpointed
        if is_full and not faults.memory_in_backward:
            raise torch.OutOfMemoryError("no memory for a step")
        self.unet.on_gradient = _no_memory if is_full else None

    def _poisoned(self, denoised: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return denoised
        start = self.faults.bad_gradient_from
        if self.calls == self.faults.bad_gradient_at or 0 < start <= self.calls:
            denoised.register_hook(lambda gradient: gradient * math.inf)
        return denoised * math.nan if self.calls == self.faults.nan_at else denoised


def _no_memory(gradient: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("no memory for a gradient")
