"""Pictures: layout, range, and the square crop that training works on.

Pictures are ``(b, h, w, c)`` in [0, 1] everywhere outside a backbone.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy.typing as npt
import torch
from einops import rearrange, repeat
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .errors import ACFunError
from .image_files import to_mask, to_picture

T = TypeVar("T")

MIN_SIDE = 64
MAX_ASPECT = 4.0

AnyPicture = Tensor | Image.Image | npt.NDArray[Any]
Pictures = AnyPicture | Sequence[AnyPicture]
"""One batch ``(b, h, w, c)`` or one image, or several of any sizes; see :func:`to_picture`."""


def single_pictures(pictures: Pictures) -> list[Tensor]:
    """Return pictures, or masks, one by one in their order, each as a batch of 1."""
    return [batch[i : i + 1] for batch in _batches(pictures) for i in range(len(batch))]


def at_most(pictures: Sequence[T], limit: int) -> list[T]:
    """Return all pictures, or ``limit`` (2 or more) of them evenly spread from first to last.

    pictures: they, or what belongs to each of them.
    """
    last = len(pictures) - 1
    if last < limit:
        return list(pictures)
    return [pictures[round(i * last / (limit - 1))] for i in range(limit)]


def check_pictures(pictures: Pictures, role: str) -> None:
    """Refuse pictures that no conversion makes sensible.

    Args:
        pictures: c of 1 (grey), 2 (grey and alpha), 3 or 4 (alpha).
        role: what the user calls them, for the message: "style_image".

    Raises:
        ACFunError: wrong layout, empty batch, NaN or infinite values, a side under
            ``MIN_SIDE`` pixels, or one side more than ``MAX_ASPECT`` times the other.
    """
    batches = _batches(pictures)
    if not batches:
        raise ACFunError(
            "{role} is an empty list: at least one picture is needed. Connect one.", role=role
        )
    for number, batch in enumerate(batches, start=1):
        _check_batch(batch, role if len(batches) == 1 else f"{role} {number} of {len(batches)}")


def _check_batch(pictures: Tensor, role: str) -> None:
    if pictures.ndim != 4 or pictures.shape[-1] not in (1, 2, 3, 4):
        raise ACFunError(
            "{role} must be pictures of shape (batch, height, width, channels) with 1 to "
            "4 channels; found {shape}. Connect an IMAGE output.",
            role=role,
            shape=tuple(pictures.shape),
        )
    if pictures.shape[0] == 0:
        raise ACFunError(
            "{role} is an empty batch: at least one picture is needed. Connect one.", role=role
        )
    height, width = pictures.shape[1:3]
    if min(height, width) < MIN_SIDE:
        raise ACFunError(
            "{role} is {width} x {height} pixels; each side must be {least} or more. Use "
            "a larger picture.",
            role=role,
            width=width,
            height=height,
            least=MIN_SIDE,
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ACFunError(
            "{role} is {width} x {height} pixels, and training would cut a square from "
            "its centre and lose most of it; at most {most:g} : 1 is taken. Crop it "
            "first.",
            role=role,
            width=width,
            height=height,
            most=MAX_ASPECT,
        )
    if not torch.isfinite(pictures).all():
        raise ACFunError(
            "{role} holds NaN or infinite values; every value must be between 0 and 1. "
            "Check the node that made it.",
            role=role,
        )


def check_mask(mask: Tensor, role: str) -> Tensor:
    """Return a mask in one layout, and refuse what no conversion makes sensible.

    Args:
        mask: ``(h, w)``, ``(b, h, w)`` or ``(b, 1, h, w)``, any size.
        role: what the user calls it, for the message: "face_mask".

    Returns:
        ``(b, 1, h, w)`` float32 on the CPU, clamped to [0, 1].

    Raises:
        ACFunError: wrong layout, empty batch, a side of zero, NaN or infinite values.
    """
    layout = tuple(mask.shape)
    if mask.ndim not in (2, 3, 4) or (mask.ndim == 4 and mask.shape[1] != 1):
        raise ACFunError(
            "{role} must be masks of shape (batch, height, width); found {layout}. "
            "Connect a MASK output.",
            role=role,
            layout=layout,
        )
    if mask.numel() == 0:
        raise ACFunError(
            "{role} is empty: it has the shape {layout}, and at least one mask of one "
            "pixel is needed. Connect another MASK or none.",
            role=role,
            layout=layout,
        )
    if not torch.isfinite(mask).all():
        raise ACFunError(
            "{role} holds NaN or infinite values; every value must be between 0 and 1. "
            "Check the node that made it.",
            role=role,
        )
    mask = mask.detach().to("cpu", torch.float32).clamp(0, 1)
    return mask.reshape(-1, 1, *mask.shape[-2:])


def prepare_pictures(pictures: Pictures, side: int, role: str) -> Tensor:
    """Return RGB squares ready for training.

    Grey becomes three equal channels, alpha is laid over white, values are clamped to [0, 1], the
    largest centred square of each picture is cut out and resized (bicubic, antialiased).

    Args:
        pictures: see :func:`check_pictures`; those of a list may differ in size and channels.
        side: side of the result in pixels.
        role: what the user calls them, for messages.

    Returns:
        ``(b, side, side, 3)`` float32 on the CPU, in [0, 1], in the order given.

    Raises:
        ACFunError: see :func:`check_pictures`.
    """
    check_pictures(pictures, role)
    squares = []
    for batch in _batches(pictures):
        square = rearrange(centre_square(over_white(batch)), "b h w c -> b c h w")
        if square.shape[-1] != side:
            square = F.interpolate(square, size=(side, side), mode="bicubic", antialias=True)
        squares.append(rearrange(square, "b c h w -> b h w c").clamp(0, 1).contiguous())
    return torch.cat(squares)


def over_white(pictures: Tensor) -> Tensor:
    """Return a batch in RGB, float32 on the CPU, clamped to [0, 1], with alpha laid over white."""
    pictures = pictures.detach().to("cpu", torch.float32).clamp(0, 1)
    if pictures.shape[-1] in (2, 4):
        colour, alpha = pictures[..., :-1], pictures[..., -1:]
        pictures = colour * alpha + (1 - alpha)
    if pictures.shape[-1] == 1:
        pictures = repeat(pictures, "b h w 1 -> b h w c", c=3)
    return pictures


def prepare_mask(mask: Pictures, pictures: Pictures, side: int) -> Tensor:
    """Return a face mask for each photo, cropped and resized as the photo is, averaging 1.

    Args:
        mask: see :func:`check_mask`, or several of these; 1 where the face counts. One for all
            photos or one for each; stretched to its photo's size first.
        pictures: the face photos as the user gave them.
        side: side of the result in latent pixels.

    Returns:
        ``(b, 1, side, side)`` float32, each mask with mean 1, so that the loss keeps its scale.

    Raises:
        ACFunError: see :func:`check_mask`; or another number of masks than of photos, or a mask
            that is empty inside the crop.
    """
    photos = single_pictures(pictures)
    masks = single_pictures([_checked_mask(batch) for batch in _batches(mask, to_mask)])
    if len(masks) not in (1, len(photos)):
        raise ACFunError(
            "face_mask must hold one mask or one per face photo ({count}); found "
            "{masks}. Connect a MASK made from the face photo.",
            count=len(photos),
            masks=len(masks),
        )
    masks = masks * len(photos) if len(masks) == 1 else masks
    pairs = zip(masks, photos, strict=True)
    return torch.cat([_fitted_mask(one, photo, side) for one, photo in pairs])


def _checked_mask(mask: Tensor) -> Tensor:
    mask = check_mask(mask, "face_mask")
    if tuple(mask.shape[2:]) == (64, 64) and not mask.any():
        raise ACFunError(
            "face_mask is empty: Load Image gives a black mask of 64 x 64 pixels for a picture "
            "without transparency. Paint the face in the mask editor or disconnect the mask."
        )
    return mask


def _fitted_mask(mask: Tensor, photo: Tensor, side: int) -> Tensor:
    stretched = F.interpolate(mask, size=photo.shape[1:3], mode="bilinear")
    square = centre_square(rearrange(stretched, "b 1 h w -> b h w 1"))
    small = F.interpolate(
        rearrange(square, "b h w 1 -> b 1 h w"), size=(side, side), mode="bilinear", antialias=True
    )
    mean = small.mean(dim=(1, 2, 3), keepdim=True)
    if (mean < 1e-4).any():
        raise ACFunError(
            "face_mask is empty inside the centred square that training uses; it must be white on "
            "the face. Paint the face or disconnect the mask."
        )
    return small / mean


def picture_hash(pictures: Tensor) -> str:
    """Return the SHA-256 of pictures ``(b, h, w, c)`` in [0, 1], rounded to 8 bits, in hex."""
    levels = (pictures.detach().cpu().float() * 255).round().to(torch.uint8).contiguous()
    digest = hashlib.sha256(str(tuple(levels.shape)).encode())
    digest.update(levels.numpy().tobytes())
    return digest.hexdigest()


def centre_square(pictures: Tensor) -> Tensor:
    """Return the largest centred square of pictures ``(b, h, w, c)``."""
    height, width = pictures.shape[1:3]
    side = min(height, width)
    top, left = math.floor((height - side) / 2), math.floor((width - side) / 2)
    return pictures[:, top : top + side, left : left + side]


def _batches(
    pictures: Pictures, convert: Callable[[object], Tensor] = to_picture
) -> Sequence[Tensor]:
    several = pictures if isinstance(pictures, Sequence) else [pictures]
    return [one if isinstance(one, Tensor) else convert(one) for one in several]
