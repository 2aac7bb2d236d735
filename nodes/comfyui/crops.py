"""Places of parts of a picture in the whole of it, and masks cut to them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Crop(NamedTuple):
    """Where a sample was cut from the batch of whole latents, in latent pixels.

    frame is None where several frames are equal and nothing tells which it was.
    """

    frame: int | None
    top: int
    left: int


def cut(mask: Tensor, size: tuple[int, int], places: Sequence[Crop], part: Sequence[int]) -> Tensor:
    """Return the parts ``(b, 1, h, w)`` of a mask that belong to places.

    Args:
        mask: as painted, ``(m, 1, any, any)``; frame i has mask i modulo m, an unknown one the
            first.
        size: of the whole latent, to which the mask is stretched.
        places: one for each sample.
        part: height and width of the samples.
    """
    whole = F.interpolate(mask, size=size, mode="area")
    parts = [_roll(whole[(p.frame or 0) % len(mask)], p.top, p.left) for p in places]
    return torch.stack(parts)[..., : part[0], : part[1]].contiguous()


def find(sample: Tensor, latent: Tensor) -> Crop | None:
    """Return where a sample was cut from, by its values, None if it is nowhere.

    Args:
        sample: ``(c, h, w)``.
        latent: ``(n, c, whole h, whole w)``.
    """
    height, width = sample.shape[-2:]
    found: dict[int, Crop] = {}
    for frame, top, left in (latent == sample[:, :1, :1]).all(dim=1).nonzero().tolist():
        # Some packs roll the picture before they cut it into tiles.
        if frame not in found and torch.equal(
            _roll(latent[frame], top, left)[:, :height, :width], sample
        ):
            found[frame] = Crop(frame, top, left)
    if not found:
        return None
    first = next(iter(found.values()))
    return first if len(found) == 1 else first._replace(frame=None)


def _roll(picture: Tensor, top: int, left: int) -> Tensor:
    if (top, left) == (0, 0):
        return picture
    return picture.roll((-top, -left), dims=(-2, -1))
