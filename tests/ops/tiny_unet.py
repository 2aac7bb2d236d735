"""A U-Net small enough for milliseconds, with the blocks that a real one has.

Residual blocks of two widths, cross-attention to the context after them, a skip connection from
encoder to decoder, self-attention at the end, and names for its blocks as the canonical LDM layout
writes them.
"""

import math
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

RESBLOCKS = {"input_blocks.1.0": 8, "middle_block.0": 16, "output_blocks.0.0": 8}
ATTENTIONS = {"middle_block.1": 16, "output_blocks.0.1": 8}
EMBEDDING = 16


class ResBlock(nn.Module):
    """A residual block; its branch, ``out_layers``, is where an insert hangs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(4, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.embedding = nn.Linear(EMBEDDING, outputs)
        self.out_layers = nn.Sequential(
            nn.GroupNorm(4, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.in_layers(x) + self.embedding(embedding)[:, :, None, None]
        return self.skip(x) + self.out_layers(hidden)


class CrossAttention(nn.Module):
    """Attention from pixels to the context; returns tokens ``(b, n, c)``."""

    def __init__(self, channels: int, context_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(context_width, channels, bias=False)
        self.value = nn.Linear(context_width, channels, bias=False)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        key, value = self.key(context), self.value(context)
        scores = self.query(tokens) @ key.transpose(1, 2) / math.sqrt(key.shape[-1])
        return torch.softmax(scores, dim=-1) @ value


class SelfAttention(nn.Module):
    """Attention among pixels ``(b, c, h, w)``, with projections named as real ones are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (
            nn.Linear(channels, channels, bias=False) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = rearrange(x, "b c h w -> b (h w) c")
        query, key, value = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        attended = F.scaled_dot_product_attention(query, key, value)
        return x + rearrange(attended, "b (h w) c -> b c h w", h=x.shape[2])


class Block(nn.Module):
    """A residual block and, where there is one, the attention after it."""

    def __init__(self, inputs: int, outputs: int, context_width: int = 0) -> None:
        super().__init__()
        self.resblock = ResBlock(inputs, outputs)
        self.attention = CrossAttention(outputs, context_width) if context_width else None

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        x = self.resblock(x, embedding)
        if self.attention is None:
            return x
        tokens = rearrange(x, "b c h w -> b (h w) c")
        tokens = tokens + self.attention(tokens, context)
        return rearrange(tokens, "b (h w) c -> b c h w", h=x.shape[2])


class TinyUNet(nn.Module):
    """Maps a noisy latent ``(b, 4, h, w)``, log sigma and a context to a prediction."""

    def __init__(self, context_width: int, pooled_width: int) -> None:
        super().__init__()
        self.time = nn.Linear(2, EMBEDDING)
        self.pooled = nn.Linear(pooled_width, EMBEDDING) if pooled_width else None
        self.stem = nn.Conv2d(4, 8, 3, padding=1)
        self.encoder = Block(8, 8)
        self.middle = Block(8, 16, context_width)
        self.decoder = Block(24, 8, context_width)
        self.head = nn.Conv2d(8, 4, 3, padding=1)
        self.own = SelfAttention(8)
        self.checkpointed = False
        self.on_gradient: Callable[[Tensor], Tensor] | None = None

    def resblocks(self) -> dict[str, nn.Module]:
        """Return the residual branches by canonical name."""
        blocks = (self.encoder, self.middle, self.decoder)
        return dict(zip(RESBLOCKS, (b.resblock.out_layers for b in blocks), strict=True))

    def attentions(self) -> dict[str, nn.Module]:
        """Return the cross-attentions by canonical name."""
        blocks = (self.middle, self.decoder)
        return dict(zip(ATTENTIONS, (b.attention for b in blocks), strict=True))

    def forward(self, x: Tensor, level: Tensor, context: Tensor, pooled: Tensor | None) -> Tensor:
        embedding = self.time(torch.stack([level, level.sin()])[None]).expand(len(x), -1)
        if self.pooled is not None:
            embedding = embedding + self.pooled(pooled)
        context = context.expand(len(x), -1, -1)
        fine = self._run(self.encoder, self.stem(x), embedding, context)
        coarse = self._run(self.middle, F.avg_pool2d(fine, 2), embedding, context)
        if self.on_gradient is not None:
            coarse.register_hook(self.on_gradient)
        both = torch.cat([F.interpolate(coarse, scale_factor=2.0), fine], dim=1)
        return self.head(self.own(self._run(self.decoder, both, embedding, context)))

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        if not self.checkpointed:
            return block(*inputs)
        return checkpoint(block, *inputs, use_reentrant=False)
