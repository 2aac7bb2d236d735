"""A U-Net's self-attention: what a peer that works in it reads."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


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
def read(attentions: Sequence[Any]) -> Iterator[list[Attended]]:
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
