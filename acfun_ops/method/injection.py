"""The adapters of CFun on a network: forward hooks, masks, and strengths by part of it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ACFunError
from .concrete_fusion import ConcreteFusion, FoldedFusion

Part = Literal["encoder", "middle", "decoder"]

_PARTS: dict[str, Part] = {
    "input_blocks": "encoder",
    "middle_block": "middle",
    "output_blocks": "decoder",
}
# In the order in which they run.
_STACKS = (
    "layers",
    "double_blocks",
    "single_blocks",
    "joint_blocks",
    "transformer_blocks",
    "blocks",
)
_BLOCK = re.compile(rf"({'|'.join([*_PARTS, *_STACKS])})(\.[0-9]{{1,4}})+")


class Site(Protocol):
    """What an adapter hangs on: a module, or what shows hooks a part of its output."""

    def register_forward_hook(self, hook: Callable[..., Any]) -> Any:
        """Hook as on a module; what is returned has ``remove``."""


def parts_of(blocks: Iterable[str]) -> dict[str, Part]:
    """Return the part of the network that each of a style's blocks is in, by canonical name.

    A U-Net's names (``input_blocks.1.0``) tell it. A transformer (``layers.3``) has two halves: the
    early one makes the structure, as a U-Net's decoder does, and counts as such; the late one makes
    strokes and detail and counts as the encoder (arXiv 2601.02211; SplitFlux, CVPR 2026).

    Args:
        blocks: all that have adapters.

    Raises:
        ACFunError: a name is none of a network's.
    """
    parts: dict[str, Part] = {}
    row: list[tuple[int, int, str]] = []
    for block in blocks:
        name = _BLOCK.fullmatch(block)
        if name is None:
            raise ACFunError(
                "'{block}' is no block name; expected one that starts with {names}. "
                "The style file is damaged or foreign.",
                block=block,
                names=", ".join([*_PARTS, *_STACKS]),
            )
        if name[1] in _PARTS:
            parts[block] = _PARTS[name[1]]
        else:
            row.append((_STACKS.index(name[1]), int(name[2][1:]), block))
    for number, (*_, block) in enumerate(sorted(row)):
        parts[block] = "decoder" if number < len(row) / 2 else "encoder"
    return parts


class BlockMask:
    """Where adapters act, or how much on each sample, at any block's size; each is made once.

    mask: ``(b, 1, h, w)`` in [0, 1], one for each sample that the network sees.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask.float()
        self._sizes: dict[tuple[Any, ...], Tensor] = {}

    def resize(self, size: Sequence[int], device: torch.device) -> Tensor:
        """Return the mask at ``size`` (h, w), each value the mean of its area.

        Unlike interpolation it carries nothing over an edge.
        """
        key = (*size, device)
        if key not in self._sizes:
            self._sizes[key] = F.interpolate(self.mask.to(device), size=tuple(size), mode="area")
        return self._sizes[key]


@dataclass(frozen=True, kw_only=True)
class PartStrengths:
    """How strongly the adapters of each part act; 1 is as trained, 0 is off. See ``parts_of``."""

    encoder: float = 1.0
    """Of those in ``input_blocks`` or a transformer's late half: strokes and texture."""
    middle: float = 1.0
    """Of those in ``middle_block``."""
    decoder: float = 1.0
    """Of those in ``output_blocks`` or a transformer's early half: structure, and colours."""

    def block_strengths(self, blocks: Iterable[str]) -> dict[str, float]:
        """Return the strength of each of a style's blocks; see :func:`parts_of`."""
        return {block: getattr(self, part) for block, part in parts_of(blocks).items()}

    def scale(self, strength: float) -> "PartStrengths":
        """Return all three multiplied by ``strength``."""
        return replace(
            self,
            encoder=self.encoder * strength,
            middle=self.middle * strength,
            decoder=self.decoder * strength,
        )


FULL_STRENGTH = PartStrengths()


def fold_adapters(
    adapters: Mapping[str, ConcreteFusion], strengths: Mapping[str, float], device: torch.device
) -> dict[str, FoldedFusion]:
    """Return adapters with their strengths folded in, on a device; those of strength 0 are none."""
    return {
        block: FoldedFusion(adapter, strengths[block]).to(device)
        for block, adapter in adapters.items()
        if strengths[block] != 0
    }


@contextmanager
def attach_adapters(
    adapters: Mapping[str, ConcreteFusion | FoldedFusion],
    modules: Mapping[str, Site],
    mask: BlockMask | None = None,
) -> Iterator[list["AdapterHook"]]:
    """Hook adapters onto a network's blocks for the length of a ``with`` block, errors included.

    Args:
        adapters: canonical block name to adapter; a folded one has its strength already.
        modules: canonical block name to what the adapter hangs on, whose output it changes: either
            ``(b, c, h, w)`` features or ``(b, n, c)`` tokens.
        mask: limits the effect in space.

    Yields:
        The hooks, each of which knows whether it has acted.

    Raises:
        ACFunError: an adapter's block is missing from ``modules``.
    """
    missing = sorted(adapters.keys() - modules.keys())
    if missing:
        raise ACFunError(
            "The style has inserts for {count} blocks, but the model lacks {missing} "
            "({missing_count} missing). Apply the style to the model family it was trained on.",
            count=len(adapters),
            missing=missing[0],
            missing_count=len(missing),
        )
    hooks = {block: AdapterHook(adapter, mask) for block, adapter in adapters.items()}
    with ExitStack() as handles:
        for block, hook in hooks.items():
            handles.callback(modules[block].register_forward_hook(hook).remove)
        yield list(hooks.values())


class AdapterHook:
    """A forward hook that passes a module's output through one adapter."""

    def __init__(self, adapter: ConcreteFusion | FoldedFusion, mask: BlockMask | None) -> None:
        self.adapter, self.mask = adapter, mask
        self.has_acted = False

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """See register_forward_hook: the result takes the place of ``output``."""
        self.has_acted = True
        features = rearrange(output, "b n c -> b c n") if output.ndim == 3 else output
        fused: Tensor = self.adapter(features, self._strength_on(output))
        return rearrange(fused, "b c n -> b n c") if output.ndim == 3 else fused

    def _strength_on(self, output: Tensor) -> float | Tensor:
        if self.mask is None:
            return 1.0
        if output.ndim == 4:
            return self.mask.resize(output.shape[-2:], output.device)
        if self.mask.mask.shape[-2:] != (1, 1):
            raise ACFunError(
                "This style sits in attention blocks, where a mask cannot act; it needs inserts in "
                "ResBlocks. Leave the mask out or use ResBlock inserts."
            )
        return self.mask.resize((1, 1), output.device)[..., 0]
