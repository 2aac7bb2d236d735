"""The self-attentions of a network, as the restyling of a face sees them (StyleID).

A U-Net's are modules with projections. A transformer's attention is joint with the text, behind
norms and rotary embeddings: there an override of ComfyUI's attention shows the image tokens' part.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor, nn

from . import unet
from .families import Network
from .sites import TokenGrid, blocks_of


class _Share(nn.Module):
    """Returns one third of the channels of ``(b, n, 3 d)``."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, joined: Tensor) -> Tensor:
        return joined.chunk(3, dim=-1)[self.number]


class _Attention(nn.Module):
    """Stands for a block's self-attention: its projections are given query, key and value.

    They are joined, so that hooks on its projections see one input, as on a U-Net's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = map(_Share, range(3))


class ImageAttention:
    """How a network attends while a style is trained.

    Args:
        network: of a MODEL.
        grid: of a transformer, set at each call.
    """

    def __init__(self, network: Network, grid: TokenGrid) -> None:
        self.network, self.grid = network, grid
        self._blocks = [] if network.layout is None else blocks_of(network)
        self._attentions = [_Attention() for _ in self._blocks]
        self._current: _Attention | None = None

    def modules(self) -> list[nn.Module]:
        """Return the self-attentions in order: of a U-Net's decoder, or of all a transformer's."""
        if self.network.layout is None:
            return unet.self_attentions(self.network.module)
        return list(self._attentions)

    @contextmanager
    def watch_blocks(self) -> Iterator[None]:
        """In a call of the network know which block runs, if hooks are on its attention."""
        self._current = None  # An error may have left one.
        with ExitStack() as hooks:
            for block, attention in zip(self._blocks, self._attentions, strict=True):
                if attention.to_q._forward_pre_hooks:
                    enter = partial(self._enter_block, attention)
                    hooks.callback(block.register_forward_pre_hook(enter).remove)
            yield

    def attend(
        self, function: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Attend by torch's own function, which has a backward; an optimized_attention_override."""
        attention, self._current = self._current, None
        if attention is not None:
            q, k, v = self._show(attention, q, k, v, bool(kwargs.get("skip_reshape")))
        return attention_pytorch(q, k, v, heads, *args, **kwargs)

    def _enter_block(self, attention: _Attention, module: nn.Module, args: Any) -> None:
        self._current = attention

    def _show(
        self, attention: _Attention, q: Tensor, k: Tensor, v: Tensor, has_heads: bool
    ) -> tuple[Tensor, ...]:
        """Return query, key and value with the image tokens' part as hooks make it."""
        # A block's first attention is over the image and, if at all, the text before it.
        wholes = [(each.transpose(1, 2) if has_heads else each).flatten(2) for each in (q, k, v)]
        place = self.grid.place("last", wholes[0].shape[1])
        joined = torch.cat([whole[:, place] for whole in wholes], dim=-1)
        for whole, project in zip(
            wholes, (attention.to_q, attention.to_k, attention.to_v), strict=True
        ):
            whole[:, place] = project(joined)
        if has_heads:
            return tuple(whole.unflatten(2, q.shape[1::2]).transpose(1, 2) for whole in wholes)
        return tuple(map(Tensor.view_as, wholes, (q, k, v)))
