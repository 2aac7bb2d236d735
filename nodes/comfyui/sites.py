"""Where adapters hang on a network, and how hooks on a transformer see the image's tokens."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ...acfun_ops.backbones.backbone import InsertPoint
from ...acfun_ops.method.concrete_fusion import InsertAt
from . import unet
from .families import Network, Stack, Tokens


class TokenGrid:
    """Where the image's tokens stand in what the modules of a transformer return.

    Args:
        network: a transformer.

    Attributes:
        height, width: of the image in tokens; set by :meth:`look_at` before each call.
    """

    def __init__(self, network: Network) -> None:
        self.patch: int = getattr(network.module, "patch_size", 1)
        self.padding: int = getattr(network.module, "pad_tokens_multiple", None) or 1
        self.height = self.width = 0
        self._with_references = 0

    def look_at(self, x: Tensor) -> None:
        """Take the size of what the network is about to be called with, ``(b, c, ..., h, w)``."""
        self.height, self.width = (-(-side // self.patch) for side in x.shape[-2:])

    def count_images(self, module: nn.Module, args: Any, output: Tensor) -> None:
        """Note how many tokens are no text, where a module returns these alone (a hook)."""
        self._with_references = output.shape[1]

    def place(self, tokens: Tokens, total: int) -> slice:
        """Return where the image's tokens stand among so many."""
        count = self.height * self.width
        if tokens == "first":
            start = 0
        elif tokens == "behind":
            start = total - self._with_references
        else:
            start = total - count - -count % self.padding
        return slice(start, start + count)


class ImageTokens:
    """A module of a transformer whose hooks are shown the image's tokens as ``(b, c, h, w)``.

    The tokens of the text and of reference images stay as they are, bit for bit.

    Args:
        module: returns ``(b, n, c)``, or ``(b, t, h, w, c)``.
        tokens: where the image's stand in that.
        grid: of the network.
        images: a module that runs earlier and returns the tokens of all images.
    """

    def __init__(
        self, module: nn.Module, tokens: Tokens, grid: TokenGrid, images: nn.Module
    ) -> None:
        self.module, self.tokens, self.grid, self.images = module, tokens, grid, images

    def register_forward_hook(self, hook: Callable[..., Any]) -> "_Handles":
        """Hook on as on a module."""

        def show(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            if self.tokens == "grid":
                frames = output.shape[1]
                fused = hook(module, args, rearrange(output, "b t h w c -> (b t) c h w"))
                if fused is None:
                    return None
                return rearrange(fused, "(b t) c h w -> b t h w c", t=frames)
            place = self.grid.place(self.tokens, output.shape[1])
            image = rearrange(output[:, place], "b (h w) c -> b c h w", h=self.grid.height)
            fused = hook(module, args, image)
            if fused is None:
                return None
            image = rearrange(fused, "b c h w -> b (h w) c")
            return torch.cat([output[:, : place.start], image, output[:, place.stop :]], dim=1)

        handles = [self.module.register_forward_hook(show)]
        if self.tokens == "behind":
            handles.append(self.images.register_forward_hook(self.grid.count_images))
        return _Handles(handles)


class _Handles:
    def __init__(self, handles: list[Any]) -> None:
        self.handles = handles

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()


def insert_points(network: Network, where: InsertAt, grid: TokenGrid) -> dict[str, InsertPoint]:
    """Return the blocks that inserts can hang on, by canonical name.

    Args:
        network: of a MODEL.
        where: in a U-Net's blocks; a transformer's have one place.
        grid: of a transformer, set at each call; a U-Net needs none.
    """
    if network.layout is None:
        return unet.insert_points(network.module, where)
    stacks, channels = network.layout.stacks, getattr(network.module, network.layout.channels)
    images = _branches(network.module, stacks[0])[0]
    return {
        f"{stack.blocks}.{number}": InsertPoint(
            ImageTokens(branch, stack.tokens, grid, images), channels
        )
        for stack in stacks
        for number, branch in enumerate(_branches(network.module, stack))
    }


def blocks_of(network: Network) -> list[nn.Module]:
    """Return a transformer's blocks or a U-Net's parts: what is recomputed in a backward pass."""
    if network.layout is None:
        return unet.checkpoint_parts(network.module)
    stacks = [getattr(network.module, stack.blocks) for stack in network.layout.stacks]
    return [block for stack in stacks for block in stack]


def _branches(module: nn.Module, stack: Stack) -> list[nn.Module]:
    return [block.get_submodule(stack.branch) for block in getattr(module, stack.blocks)]
