"""AFun, the abstract part of a style: prompt tokens attend to the style image's CLIP tokens."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ACFunError


class StyleAttention(nn.Module):
    """One layer of AFun: softmax(Q K^T / sqrt(d)) V over the style tokens (ACFun sec. 3.2, eq. 2).

    Inputs are layer-normalised, because CLIP tokens have a few very large channels. The output
    projection starts at zero, so that an untrained layer adds nothing.
    """

    def __init__(
        self, text_dim: int, image_dim: int, heads: int, dropout: float, inner: int
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(text_dim, inner, bias=False)
        self.key = nn.Linear(image_dim, inner, bias=False)
        self.value = nn.Linear(image_dim, inner, bias=False)
        self.out = nn.Linear(inner, text_dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Sample the projections (Xavier uniform) and set that of the output to zero.

        Args:
            generator: None takes torch's global one.
        """
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, text: Tensor, style_tokens: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return what the layer adds to ``text`` ``(b, t, d)``, given style ``(b, n, di)``."""
        style_tokens = F.layer_norm(style_tokens, style_tokens.shape[-1:])
        query = self.query(F.layer_norm(text, text.shape[-1:]))
        query, key, value = (
            rearrange(x, "b t (h d) -> b h t d", h=self.heads)
            for x in (query, self.key(style_tokens), self.value(style_tokens))
        )
        attention = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, dim=-1)
        if generator is not None and self.dropout > 0:
            attention = attention * _dropout_mask(attention, self.dropout, generator)
        out: Tensor = self.out(rearrange(attention @ value, "b h t d -> b t (h d)"))
        return out


class AbstractFusion(nn.Module):
    """AFun: fuses a prompt embedding with a style image (ACFun sec. 3.2).

    ``e^(n+1) = e^(n) + layer_n(e^(n), style tokens)``. Untrained it returns the text exactly.

    Args:
        text_dim: width of the prompt embedding (768 for SD1, 1024 for SD2, 2048 for SDXL).
        image_dim: width of the CLIP image tokens (1024 for ViT-L/14).
        layers: number of attention layers, 1 or more.
        heads: attention heads.
        dropout: ratio of attention weights dropped in training, 0 to below 1.
        inner: width of all heads together, see :func:`inner_width`; None for a quarter of the text.

    Raises:
        ValueError: the heads cannot share the inner width.
    """

    def __init__(
        self,
        text_dim: int,
        image_dim: int,
        layers: int = 2,
        heads: int = 8,
        dropout: float = 0.05,
        inner: int | None = None,
    ) -> None:
        super().__init__()
        inner = inner_width(text_dim, heads) if inner is None else inner
        if inner % heads:
            raise ValueError(heads, inner)
        self.text_dim = text_dim
        self.image_dim = image_dim
        self.layers = nn.ModuleList(
            StyleAttention(text_dim, image_dim, heads, dropout, inner) for _ in range(layers)
        )

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Sample all weights; the result is untrained and returns its text exactly."""
        for layer in self.layers:
            layer.reset_parameters(generator)  # type: ignore[operator]

    def forward(
        self,
        text: Tensor,
        style_tokens: Tensor,
        strength: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the fused prompt embedding, float32 inside, in the dtype of ``text``.

        Args:
            text: prompt embedding ``(b, t, text_dim)``, any number of tokens.
            style_tokens: ``(n, image_dim)`` or ``(b, n, image_dim)``.
            strength: how much of the fusion is added; 0 returns ``text`` itself.
            generator: samples the dropout; given in training only, on the CPU.

        Raises:
            ACFunError: a width differs from the one AFun was built for.
        """
        if strength == 0:
            return text
        if text.shape[-1] != self.text_dim or style_tokens.shape[-1] != self.image_dim:
            raise ACFunError(
                "The prompt was encoded by another kind of CLIP than the style was trained "
                "with (embeddings {shape} wide and not {text_dim}, image tokens {image_width} and "
                "{image_dim}). Use the CLIP of the model family it was trained on.",
                shape=text.shape[-1],
                text_dim=self.text_dim,
                image_width=style_tokens.shape[-1],
                image_dim=self.image_dim,
            )
        if style_tokens.ndim == 2:
            style_tokens = style_tokens.expand(text.shape[0], -1, -1)
        with torch.autocast(text.device.type, enabled=False):
            embedding, style_tokens = text.float(), style_tokens.float()
            for layer in self.layers:
                embedding = embedding + layer(embedding, style_tokens, generator)
            return (text.float() + strength * (embedding - text.float())).to(text.dtype)


def inner_width(text_dim: int, heads: int, most: int | None = None) -> int:
    """Return how wide AFun's heads are together: a quarter of the text, which keeps files small.

    Args:
        text_dim: width of the prompt embedding.
        heads: that share it.
        most: the widest that it may be; None for no limit.
    """
    return heads * max(1, min(text_dim // 4, most or text_dim) // heads)


def _dropout_mask(attention: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    kept = torch.rand(attention.shape, generator=generator) >= dropout
    return kept.to(attention.device, non_blocking=True).to(attention.dtype) / (1 - dropout)
