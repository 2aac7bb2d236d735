"""Warnings about usable but suspicious training images."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from ..messages import Message

_LEVEL = 1 / 255
_NAMED_SIZES = 3


def image_warnings(role: str, images: Sequence[Tensor], squares: Tensor) -> list[str]:
    """Return a sentence for each thing about images that the user may not have meant.

    A crop, values outside [0, 1], transparency, one plain colour.

    Args:
        role: what the user calls them: "style_image".
        images: one by one, as given.
        squares: what is trained on, ``(b, s, s, 3)``.
    """
    high, low = squares.amax(dim=(1, 2)), squares.amin(dim=(1, 2))
    black = (high < _LEVEL).all(dim=1)
    plain = (high - low < _LEVEL).all(dim=1) & ~black
    outside = [i.min() < -_LEVEL / 2 or i.max() > 1 + _LEVEL / 2 for i in images]
    clear = [i.shape[-1] in (2, 4) and bool(i[..., -1].min() < 1) for i in images]
    found = {
        "values outside 0 to 1, which are clamped; check what made it": sum(outside),
        "transparent parts, which become white": sum(clear),
        "nothing but black, so there is nothing to learn": black.sum(),
        "nothing but one plain colour, so there is nothing to learn": plain.sum(),
    }
    return _crop_warnings(role, images) + [
        Message("{some} has {text}.", some=_name_some(role, int(count), len(images)), text=text)
        for text, count in found.items()
        if count
    ]


def pair_warnings(style: Tensor, face: Tensor, mask: Tensor | None, given: int) -> list[str]:
    """Return what the user may not have meant of style pictures and face photos together.

    Their number, the same image as style and face, and a mask that is white around the face.

    Args:
        style: the squares of the style pictures that are used, ``(b, s, s, 3)``.
        face: the squares of the photos, ``(b, s, s, 3)``.
        mask: ``(b, 1, s, s)``, None if there is none.
        given: how many style pictures there are.
    """
    warnings: list[str] = []
    if max(given, len(face)) > 1:
        used: object = len(style)
        if len(style) < given:
            used = Message("{used} of {styles}, evenly spread,", used=used, styles=given)
        text = "One style is trained on style pictures: {count} and face photos: {faces}."
        warnings.append(Message(text, count=used, faces=len(face)))
    if any(torch.equal(one, other) for one in style for other in face):
        warnings.append(
            "style_image and face_image are the same picture, so the style learns nothing of its "
            "own. Give a picture in the style as style_image and a photo as face_image."
        )
    if mask is not None and _is_white_outside(mask):
        warnings.append(
            "face_mask is white at the border and dark in the middle. A mask of transparency is "
            "white where the picture is transparent: if that is around the face, invert it."
        )
    return warnings


def _name_some(role: str, count: int, total: int) -> str:
    text = "{role} ({count} of {total})"
    return role if total == 1 else Message(text, role=role, count=count, total=total)


def _crop_warnings(role: str, images: Sequence[Tensor]) -> list[str]:
    sizes = Counter((i.shape[2], i.shape[1]) for i in images if i.shape[1] != i.shape[2])
    if not sizes:
        return []
    named = [f"{w} x {h} -> {min(w, h)} x {min(w, h)}" for w, h in list(sizes)[:_NAMED_SIZES]]
    return [
        Message(
            "{some} is cut to the centred square ({named}{more}).",
            some=_name_some(role, sizes.total(), len(images)),
            named=", ".join(named),
            more=", ..." if len(sizes) > _NAMED_SIZES else "",
        )
    ]


def _is_white_outside(masks: Tensor) -> bool:
    """Tell whether the border of a mask is more than twice as white as its middle."""
    side = masks.shape[-1]
    inner, edge = slice(side // 4, -side // 4), side // 16
    ring = masks.clone()
    ring[:, :, edge:-edge, edge:-edge] = 0
    border = ring.sum(dim=(1, 2, 3)) / (side**2 - (side - 2 * edge) ** 2)
    return bool((border > 2 * masks[:, :, inner, inner].mean(dim=(1, 2, 3))).any())
