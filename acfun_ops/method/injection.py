"""The adapters of CFun on a U-Net: forward hooks, masks, and strengths by part of the U-Net."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

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
_BLOCK = re.compile(rf"({'|'.join(_PARTS)})(\.[0-9]{{1,4}})+")


def part_of(block: str) -> Part:
    """Return the part of the U-Net that a canonical block name (``input_blocks.1.0``) is in.

    Raises:
        ACFunError: the name is none of a U-Net's.
    """
    name = _BLOCK.fullmatch(block)
    if name is None:
        raise ACFunError(
            "'{block}' is no U-Net block name; expected one that starts with {names}. "
            "The style file is damaged or foreign.",
            block=block,
            names=", ".join(_PARTS),
        )
    return _PARTS[name[1]]


class BlockMask:
    """Where adapters act, or how much on each sample, at any block's size; each is made once.

    mask: ``(b, 1, h, w)`` in [0, 1], one for each sample that the U-Net sees.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask.float()
        self._sizes: dict[tuple[Any, ...], Tensor] = {}

    def resize(self, size: Sequence[int], device: torch.device, strength: float = 1.0) -> Tensor:
        """Return ``strength`` times the mask at ``size`` (h, w), each value the mean of its area.

        Unlike interpolation it carries nothing over an edge.
        """
        key = (*size, device, strength)
        if key not in self._sizes:
            mask = F.interpolate(self.mask.to(device), size=tuple(size), mode="area")
            self._sizes[key] = strength * mask
        return self._sizes[key]


@dataclass(frozen=True, kw_only=True)
class PartStrengths:
    """How strongly the adapters of each part of the U-Net act; 1 is as trained, 0 is off."""

    encoder: float = 1.0
    """Of the adapters in ``input_blocks``: strokes and colours."""
    middle: float = 1.0
    """Of those in ``middle_block``."""
    decoder: float = 1.0
    """Of those in ``output_blocks``: the structure of the face."""

    def get(self, block: str) -> float:
        """Return the strength for a canonical block name."""
        strength: float = getattr(self, part_of(block))
        return strength

    def scale(self, strength: float) -> "PartStrengths":
        """Return all three multiplied by ``strength``."""
        return replace(
            self,
            encoder=self.encoder * strength,
            middle=self.middle * strength,
            decoder=self.decoder * strength,
        )

    def any(self) -> bool:
        """Tell whether any part acts at all."""
        return any((self.encoder, self.middle, self.decoder))


FULL_STRENGTH = PartStrengths()


def fold_adapters(
    adapters: Mapping[str, ConcreteFusion], strengths: PartStrengths, device: torch.device
) -> dict[str, FoldedFusion]:
    """Return adapters with their strengths folded in, on a device; those of strength 0 are none."""
    return {
        block: FoldedFusion(adapter, strengths.get(block)).to(device)
        for block, adapter in adapters.items()
        if strengths.get(block) != 0
    }


@contextmanager
def attach_adapters(
    adapters: Mapping[str, ConcreteFusion | FoldedFusion],
    modules: Mapping[str, nn.Module],
    strengths: PartStrengths = FULL_STRENGTH,
    mask: Tensor | BlockMask | None = None,
) -> Iterator[list["AdapterHook"]]:
    """Hook adapters onto a U-Net's blocks for the length of a ``with`` block, errors included.

    Args:
        adapters: canonical block name to adapter; a folded one has its strength already.
        modules: canonical block name to the module whose output the adapter changes; it may return
            ``(b, c, h, w)`` features or ``(b, n, c)`` tokens.
        strengths: per part of the U-Net.
        mask: ``(b, 1, h, w)`` in [0, 1], or a :class:`BlockMask`; limits the effect in space.

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
    mask = BlockMask(mask) if isinstance(mask, Tensor) else mask
    hooks = {
        block: AdapterHook(adapter, strengths.get(block), mask)
        for block, adapter in adapters.items()
        if strengths.get(block) != 0
    }
    with ExitStack() as handles:
        for block, hook in hooks.items():
            handles.callback(modules[block].register_forward_hook(hook).remove)
        yield list(hooks.values())


class AdapterHook:
    """A forward hook that passes a module's output through one adapter."""

    def __init__(
        self, adapter: ConcreteFusion | FoldedFusion, strength: float, mask: BlockMask | None
    ) -> None:
        self.adapter = adapter
        self.strength = strength
        self.mask = mask
        self.has_acted = False

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """See register_forward_hook: the result takes the place of ``output``."""
        self.has_acted = True
        features = rearrange(output, "b n c -> b c n") if output.ndim == 3 else output
        fused: Tensor = self.adapter(features, self._strength_on(output))
        return rearrange(fused, "b c n -> b n c") if output.ndim == 3 else fused

    def _strength_on(self, output: Tensor) -> float | Tensor:
        if self.mask is None:
            return self.strength
        if output.ndim == 4:
            return self.mask.resize(output.shape[-2:], output.device, self.strength)
        if self.mask.mask.shape[-2:] != (1, 1):
            raise ACFunError(
                "This style sits in attention blocks, where a mask cannot act; it needs inserts in "
                "ResBlocks. Leave the mask out or use ResBlock inserts."
            )
        return self.mask.resize((1, 1), output.device, self.strength)[..., 0]
