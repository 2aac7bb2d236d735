"""Images: layout, range, and the square crop that training works on.

Images are ``(b, h, w, c)`` in [0, 1] everywhere outside a backbone.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import numpy.typing as npt
import torch
from einops import rearrange, repeat
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .errors import ACFunError

MIN_SIDE = 64
MAX_ASPECT = 4.0

AnyImage = Tensor | Image.Image | npt.NDArray[Any]
Images = AnyImage | Sequence[AnyImage]
"""One batch ``(b, h, w, c)`` or one image, or several of any sizes; see ``to_tensor``."""


def split_images(batches: Sequence[Tensor]) -> list[Tensor]:
    """Return the images, or masks, of batches one by one in their order, each as a batch of 1."""
    return [one for batch in batches for one in torch.split(batch, 1)]


def subsample_evenly(images: Sequence[Tensor], limit: int) -> list[Tensor]:
    """Return all images, or ``limit`` (2 or more) of them evenly spread from first to last."""
    last = len(images) - 1
    if last < limit:
        return list(images)
    return [images[round(i * last / (limit - 1))] for i in range(limit)]


def check_images(images: Images, role: str) -> list[Tensor]:
    """Validate images and return them one by one, each as a batch of 1.

    Args:
        images: c of 1 (grey), 2 (grey and alpha), 3 or 4 (alpha).
        role: what the user calls them, for the message: "style_image".

    Raises:
        ACFunError: wrong layout, empty batch, NaN or infinite values, a side under
            ``MIN_SIDE`` pixels, or one side more than ``MAX_ASPECT`` times the other.
    """
    batches = _batches(images)
    if not batches:
        raise ACFunError(
            "{role} is an empty list: at least one picture is needed. Give one.", role=role
        )
    for number, batch in enumerate(batches, start=1):
        _check_batch(batch, role if len(batches) == 1 else f"{role} {number} of {len(batches)}")
    return split_images(batches)


def _check_batch(images: Tensor, role: str) -> None:
    if images.ndim != 4 or images.shape[-1] not in (1, 2, 3, 4):
        raise ACFunError(
            "{role} must be pictures of shape (batch, height, width, channels) with 1 to "
            "4 channels; found {shape}. Convert it.",
            role=role,
            shape=tuple(images.shape),
        )
    if images.shape[0] == 0:
        raise ACFunError(
            "{role} is an empty batch: at least one picture is needed. Give one.", role=role
        )
    height, width = images.shape[1:3]
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
    if not torch.isfinite(images).all():
        raise ACFunError(
            "{role} holds NaN or infinite values; every value must be between 0 and 1. "
            "Check what made it.",
            role=role,
        )


def check_mask(mask: Tensor, role: str) -> Tensor:
    """Validate a mask and return it in one layout.

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
            "{role} must be masks of shape (batch, height, width); found {layout}. Convert it.",
            role=role,
            layout=layout,
        )
    if mask.numel() == 0:
        raise ACFunError(
            "{role} is empty: it has the shape {layout}, and at least one mask of one "
            "pixel is needed. Give another mask or none.",
            role=role,
            layout=layout,
        )
    if not torch.isfinite(mask).all():
        raise ACFunError(
            "{role} holds NaN or infinite values; every value must be between 0 and 1. "
            "Check what made it.",
            role=role,
        )
    mask = mask.detach().to("cpu", torch.float32).clamp(0, 1)
    return mask.reshape(-1, 1, *mask.shape[-2:])


def to_squares(images: Images, side: int, role: str) -> Tensor:
    """Validate images and return them as RGB squares, see :func:`crop_images`.

    Raises:
        ACFunError: see :func:`check_images`.
    """
    return crop_images(check_images(images, role), side)


def crop_images(images: Sequence[Tensor], side: int) -> Tensor:
    """Return RGB squares ready for training.

    Grey becomes three equal channels, alpha is composited on white, values are clamped to [0, 1],
    the largest centred square of each image is cropped and resized (bicubic, antialiased).

    Args:
        images: validated; they may differ in size and channels.
        side: side of the result in pixels.

    Returns:
        ``(b, side, side, 3)`` float32 on the CPU, in [0, 1], in the order given.
    """
    squares = []
    for image in images:
        square = rearrange(center_crop(_composite_on_white(image)), "b h w c -> b c h w")
        if square.shape[-1] != side:
            square = F.interpolate(square, size=(side, side), mode="bicubic", antialias=True)
        squares.append(rearrange(square, "b c h w -> b h w c").clamp(0, 1).contiguous())
    return torch.cat(squares)


def _composite_on_white(image: Tensor) -> Tensor:
    image = image.detach().to("cpu", torch.float32).clamp(0, 1)
    if image.shape[-1] in (2, 4):
        colour, alpha = image[..., :-1], image[..., -1:]
        image = colour * alpha + (1 - alpha)
    if image.shape[-1] == 1:
        image = repeat(image, "b h w 1 -> b h w c", c=3)
    return image


def crop_masks(mask: Images, photos: Sequence[Tensor]) -> list[Tensor]:
    """Validate face masks, and stretch and crop one for each photo as the photo is cropped.

    Args:
        mask: see :func:`check_mask`, or several of these; 1 where the face counts. One for all
            photos or one for each.
        photos: the face photos one by one, uncropped.

    Returns:
        Masks ``(1, 1, s, s)`` in [0, 1], s the shorter side of the photo.

    Raises:
        ACFunError: see :func:`check_mask`; or another number of masks than of photos.
    """
    masks = split_images([_check_face_mask(batch) for batch in _batches(mask, are_masks=True)])
    if len(masks) not in (1, len(photos)):
        raise ACFunError(
            "face_mask must hold one mask or one per face photo ({count}); found "
            "{masks}. Make the mask from the face photo.",
            count=len(photos),
            masks=len(masks),
        )
    masks = masks * len(photos) if len(masks) == 1 else masks
    stretched = (
        F.interpolate(one, size=photo.shape[1:3], mode="bilinear")
        for one, photo in zip(masks, photos, strict=True)
    )
    return [center_crop(one.movedim(1, -1)).movedim(-1, 1) for one in stretched]


def resize_masks(masks: Sequence[Tensor], side: int) -> Tensor:
    """Return square masks of one size, each with mean 1, so that the loss keeps its scale.

    Args:
        masks: of :func:`crop_masks`.
        side: side of the result in pixels or latent pixels.

    Returns:
        ``(b, 1, side, side)`` float32.

    Raises:
        ACFunError: a mask is empty.
    """
    small = torch.cat(
        [F.interpolate(m, size=(side, side), mode="bilinear", antialias=True) for m in masks]
    )
    mean = small.mean(dim=(1, 2, 3), keepdim=True)
    if (mean < 1e-4).any():
        raise ACFunError(
            "face_mask is empty inside the centred square that training uses; it must be white on "
            "the face. Paint the face or leave the mask out."
        )
    return small / mean


def _check_face_mask(mask: Tensor) -> Tensor:
    mask = check_mask(mask, "face_mask")
    if tuple(mask.shape[2:]) == (64, 64) and not mask.any():
        raise ACFunError(
            "face_mask is empty: it is black all over, as the mask of a picture without "
            "transparency is. Paint the face white or leave the mask out."
        )
    return mask


def image_hash(images: Tensor) -> str:
    """Return the SHA-256 of images ``(b, h, w, c)`` in [0, 1], rounded to 8 bits, in hex."""
    levels = (images.detach().cpu().float() * 255).round().to(torch.uint8).contiguous()
    digest = hashlib.sha256(str(tuple(levels.shape)).encode())
    digest.update(levels.numpy().tobytes())
    return digest.hexdigest()


def center_crop(images: Tensor) -> Tensor:
    """Return the largest centred square of images ``(b, h, w, c)``."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]


def _batches(images: Images, are_masks: bool = False) -> Sequence[Tensor]:
    several = images if isinstance(images, Sequence) else [images]
    if all(isinstance(one, Tensor) for one in several):
        return cast("Sequence[Tensor]", several)
    from .image_files import to_mask, to_tensor  # ComfyUI brings tensors and needs no more.

    convert = to_mask if are_masks else to_tensor
    return [one if isinstance(one, Tensor) else convert(one) for one in several]
