"""What the user should know of the pictures before a training starts: no errors, but no secrets."""

from collections import Counter

import torch
from torch import Tensor

from ..images import (
    at_most,
    centre_square,
    over_white,
    prepare_mask,
    single_pictures,
)
from ..messages import Message
from .events import TrainPictures
from .training_images import MAX_STYLE_PICTURES

_LEVEL = 1 / 255
_SIDE = 32  # Of the small masks that the border and the middle are compared on.
_NAMED_SIZES = 3


def picture_notices(pictures: TrainPictures) -> list[str]:
    """Return a sentence for each thing about usable pictures that a user may not have meant.

    How many are used and how they are cut; values outside [0, 1], transparency, one plain colour,
    the same picture as style and face, and a mask that is white around the face instead of on it.

    Args:
        pictures: that :func:`prepare_pair` takes.
    """
    styles, faces = single_pictures(pictures.style), single_pictures(pictures.face)
    used = at_most(styles, MAX_STYLE_PICTURES)
    return [
        *_counts(len(used), len(styles), len(faces)),
        *_oddities("style_image", used),
        *_oddities("face_image", faces),
        *_same_pictures(used, faces),
        *_outer_mask(pictures),
    ]


def _counts(used: int, styles: int, faces: int) -> list[str]:
    if styles == faces == 1:
        return []
    count = (
        Message("{used} of {styles}, evenly spread,", used=used, styles=styles)
        if used < styles
        else used
    )
    return [
        Message(
            "One style is trained on style pictures: {count} and face photos: {faces}.",
            count=count,
            faces=faces,
        )
    ]


def _oddities(role: str, pictures: list[Tensor]) -> list[str]:
    notices = _cuts(role, pictures)
    outside = [p for p in pictures if p.min() < -_LEVEL / 2 or p.max() > 1 + _LEVEL / 2]
    clear = [p for p in pictures if p.shape[-1] in (2, 4) and p[..., -1].min() < 1]
    squares = [centre_square(over_white(p)) for p in pictures]
    black = [s for s in squares if s.max() < _LEVEL]
    plain = [s for s in squares if _is_plain(s) and s.max() >= _LEVEL]
    for found, text in (
        (outside, "values outside 0 to 1, which are clamped; check the node that made it"),
        (clear, "transparent parts, which become white"),
        (black, "nothing but black, so there is nothing to learn"),
        (plain, "nothing but one plain colour, so there is nothing to learn"),
    ):
        if found:
            notices.append(
                Message(
                    "{some} has {text}.", some=_some(role, len(found), len(pictures)), text=text
                )
            )
    return notices


def _some(role: str, count: int, total: int) -> str:
    return (
        role
        if total == 1
        else Message("{role} ({count} of {total})", role=role, count=count, total=total)
    )


def _cuts(role: str, pictures: list[Tensor]) -> list[str]:
    sizes = Counter((p.shape[2], p.shape[1]) for p in pictures if p.shape[1] != p.shape[2])
    if not sizes:
        return []
    named = [f"{w} x {h} -> {min(w, h)} x {min(w, h)}" for w, h in list(sizes)[:_NAMED_SIZES]]
    more = ", ..." if len(sizes) > _NAMED_SIZES else ""
    some = _some(role, sizes.total(), len(pictures))
    return [
        Message(
            "{some} is cut to the centred square ({named}{more}).",
            some=some,
            named=", ".join(named),
            more=more,
        )
    ]


def _is_plain(square: Tensor) -> bool:
    spread = square.amax(dim=(0, 1, 2)) - square.amin(dim=(0, 1, 2))
    return bool((spread < _LEVEL).all())


def _same_pictures(styles: list[Tensor], faces: list[Tensor]) -> list[str]:
    if any(
        style.shape == face.shape and torch.equal(style, face) for style in styles for face in faces
    ):
        return [
            "style_image and face_image are the same picture, so the style learns nothing of its "
            "own. Connect a picture in the style to style_image and a photo to face_image."
        ]
    return []


def _outer_mask(pictures: TrainPictures) -> list[str]:
    if pictures.face_mask is None:
        return []
    masks = prepare_mask(pictures.face_mask, pictures.face, _SIDE)
    middle = masks[:, :, _SIDE // 4 : -_SIDE // 4, _SIDE // 4 : -_SIDE // 4].mean(dim=(1, 2, 3))
    ring = masks.clone()
    ring[:, :, 2:-2, 2:-2] = 0
    border = ring.sum(dim=(1, 2, 3)) / (_SIDE**2 - (_SIDE - 4) ** 2)
    if not (border > 2 * middle).any():
        return []
    return [
        "face_mask is white at the border and dark in the middle. Load Image's MASK is white where "
        "the picture is transparent: if that is around the face, put InvertMask in between."
    ]
