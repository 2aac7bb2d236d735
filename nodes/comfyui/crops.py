"""Crops of a latent: where a sample was cut from, and masks cut to match."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Crop(NamedTuple):
    """Where a sample was cut from the batch of full latents, in latent pixels.

    frame is None where several frames are equal and the sample may be of any.
    """

    frame: int | None
    top: int
    left: int


def crop_mask(
    mask: Tensor, size: tuple[int, int], crops: Sequence[Crop], crop_size: Sequence[int]
) -> Tensor:
    """Return the crops ``(b, 1, h, w)`` of a mask.

    Args:
        mask: as painted, ``(m, 1, any, any)``; frame i has mask i modulo m, an unknown one the
            first.
        size: of the whole latent, to which the mask is stretched.
        crops: one for each sample.
        crop_size: height and width of the samples.
    """
    full = F.interpolate(mask, size=size, mode="area")
    rolled = [_roll(full[(p.frame or 0) % len(mask)], p.top, p.left) for p in crops]
    return torch.stack(rolled)[..., : crop_size[0], : crop_size[1]].contiguous()


def has_other_aspect(mask: Tensor, size: Sequence[int]) -> bool:
    """Tell whether a mask that is not uniform has other proportions than a latent.

    A difference of one latent pixel comes from rounding.
    """
    (tall, wide), (height, width) = mask.shape[-2:], size
    is_other = min(abs(height * wide / tall - width), abs(width * tall / wide - height)) > 1
    return is_other and bool(mask.amin() != mask.amax())


def find_crop(sample: Tensor, latent: Tensor) -> Crop | None:
    """Return where a sample was cut from, by its values, None if it is nowhere.

    Args:
        sample: ``(c, h, w)``.
        latent: ``(n, c, whole h, whole w)``.
    """
    height, width = sample.shape[-2:]
    found: dict[int, Crop] = {}
    for frame, top, left in (latent == sample[:, :1, :1]).all(dim=1).nonzero().tolist():
        # Some packs roll the image before they cut it into tiles.
        if frame not in found and torch.equal(
            _roll(latent[frame], top, left)[:, :height, :width], sample
        ):
            found[frame] = Crop(frame, top, left)
    if not found:
        return None
    first = next(iter(found.values()))
    return first if len(found) == 1 else first._replace(frame=None)


def _roll(image: Tensor, top: int, left: int) -> Tensor:
    if (top, left) == (0, 0):
        return image
    return image.roll((-top, -left), dims=(-2, -1))
