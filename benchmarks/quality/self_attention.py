"""A U-Net's self-attention: what the peers that work in it read and replace."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

# Both peers take the last six of the nine self-attentions in Stable Diffusion's decoder.
SHARE_OF_DECODER = 2 / 3


def late_self_attentions(unet: Any) -> list[Any]:
    """Return the last two thirds of the self-attentions in a diffusers U-Net's decoder."""
    blocks = [m for m in unet.up_blocks.modules() if isinstance(m, BasicTransformerBlock)]
    return [block.attn1 for block in blocks[-round(SHARE_OF_DECODER * len(blocks)) :]]


@contextmanager
def borrowed(attentions: list[Any], kept_query: float, temperature: float) -> Iterator[None]:
    """Let all but the first two of a batch attend to the first, for the length of a block.

    The batch holds a style's latent, a content's latent, and what is drawn. The last take keys and
    values from the first and a part of their query from the second (StyleID; Chung et al., 2024).

    Args:
        attentions: diffusers' attention modules.
        kept_query: share of the content's query, 0 to 1.
        temperature: by which attention to the style is sharpened.
    """

    def query(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        content, own = output[1:2].expand_as(output[2:]), output[2:]
        return torch.cat([output[:2], temperature * torch.lerp(own, content, kept_query)])

    def source(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:2], output[:1].expand_as(output[2:])])

    with ExitStack() as hooks:
        for attention in attentions:
            for projection, hook in (("to_q", query), ("to_k", source), ("to_v", source)):
                module = getattr(attention, projection)
                hooks.callback(module.register_forward_hook(hook).remove)
        yield


@dataclass
class Attended:
    """What one self-attention was given and gave, each ``(b, heads, n, d)``."""

    heads: int
    parts: dict[str, Tensor] = field(default_factory=dict)

    def put(self, part: str, tensor: Tensor) -> None:
        """Keep ``(b, n, heads * d)`` under a name: query, key, value or output."""
        self.parts[part] = rearrange(tensor, "b n (h d) -> b h n d", h=self.heads)

    def towards(self, source: "Attended") -> Tensor:
        """Return what the queries would have got from another's keys and values, detached."""
        query, key, value = self.parts["query"], source.parts["key"], source.parts["value"]
        return scaled_dot_product_attention(query, key, value).detach()


@contextmanager
def read(attentions: list[Any]) -> Iterator[list[Attended]]:
    """Read what passes through self-attentions during the next calls, for the length of a block."""
    records = [Attended(attention.heads) for attention in attentions]

    def after(module: nn.Module, args: Any, output: Tensor, record: Attended, part: str) -> None:
        record.put(part, output)

    def before(module: nn.Module, args: tuple[Tensor, ...], record: Attended) -> None:
        record.put("output", args[0])

    with ExitStack() as hooks:
        for attention, record in zip(attentions, records, strict=True):
            parts = {"to_q": "query", "to_k": "key", "to_v": "value"}
            for projection, part in parts.items():
                hook = partial(after, record=record, part=part)
                module = getattr(attention, projection)
                hooks.callback(module.register_forward_hook(hook).remove)
            hook_before = partial(before, record=record)
            hooks.callback(attention.to_out[0].register_forward_pre_hook(hook_before).remove)
        yield records
