"""The picture beside a style's file, which ComfyUI's model library shows."""

import base64
import hashlib
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import folder_paths
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.file_io import write_whole
from ...acfun_ops.style.model_spec import StyleCard

SIDE = 512
THUMBNAIL_SIDE = 256
_DATA = "data:image/jpeg;base64,"
_MAX_DATA = 2**20
_FORMATS = ("JPEG", "PNG", "WEBP")
_MAX_PIXELS = 2**24


def preview_path(style_path: Path) -> Path:
    """Return where ComfyUI's model library looks for the picture of a style."""
    return style_path.with_suffix(".preview.jpg")


def check_preview(picture: Tensor) -> None:
    """Refuse an IMAGE that no preview can be made of.

    Raises:
        ACFunError: it is an empty batch, or has 2 or more than 4 channels.
    """
    if picture.ndim != 4 or picture.numel() == 0 or picture.shape[-1] not in (1, 3, 4):
        raise ACFunError(
            "preview has the shape {shape}; expected (batch, height, width, channels) of one "
            "picture or more, with 1, 3 or 4 channels. Connect another IMAGE.",
            shape=tuple(picture.shape),
        )


def write_preview(picture: Tensor, style_path: Path) -> None:
    """Write the last picture of an IMAGE beside a style: of a training's previews the most trained.

    Raises:
        ACFunError: the folder cannot be written.
    """
    write_whole(jpeg_bytes(picture, SIDE), preview_path(style_path), "preview")


def thumbnail_of(picture: Tensor) -> str:
    """Return the last picture of an IMAGE, small, as a data URI for a style's file."""
    return _DATA + base64.b64encode(jpeg_bytes(picture, THUMBNAIL_SIDE)).decode("ascii")


def read_preview(style_path: Path, card: StyleCard) -> Tensor | None:
    """Return the picture beside a style, else the one in its file, as an IMAGE; None if neither.

    Its sides are 512 pixels at most. One that cannot be read, is of another format than JPEG, PNG
    and WebP, or of more than 16 million pixels is none: it may come from anyone.
    """
    return decode_image(_content(style_path, card))


def decode_image(content: bytes) -> Tensor | None:
    """Return the IMAGE in a file's content, see :func:`read_preview`; None if there is none."""
    try:
        opened = Image.open(io.BytesIO(content), formats=_FORMATS)
        if opened.width * opened.height > _MAX_PIXELS:
            return None
        opened.draft("RGB", (SIDE, SIDE))
        picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    picture.thumbnail((SIDE, SIDE))
    levels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return rearrange(levels / 255, "(h w c) -> 1 h w c", h=picture.height, c=3)


def ui_image(image: Tensor) -> dict[str, Any]:
    """Return the ``ui`` output of an IMAGE ``(1, h, w, 3)``; the same image is written once.

    Raises:
        ACFunError: ComfyUI's folder of temporary files cannot be written.
    """
    levels = (image[0] * 255).round().to(torch.uint8).numpy()
    digest = hashlib.sha256(levels.tobytes()).hexdigest()[:16]
    name = f"acfun_{digest}_{levels.shape[1]}x{levels.shape[0]}.png"
    path = Path(folder_paths.get_temp_directory()) / name
    if not path.is_file():
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "PNG", compress_level=1)
        write_whole(file.getvalue(), path, "preview")
    file_entry = {"filename": name, "subfolder": "", "type": "temp"}
    return {"images": [file_entry], "animated": (False,)}


def _content(style_path: Path, card: StyleCard) -> bytes:
    with suppress(OSError):
        return preview_path(style_path).read_bytes()
    if card.thumbnail.startswith(_DATA) and len(card.thumbnail) <= _MAX_DATA:
        with suppress(ValueError):
            return base64.b64decode(card.thumbnail.removeprefix(_DATA))
    return b""


def jpeg_bytes(picture: Tensor, side: int) -> bytes:
    """Return the last picture of an IMAGE as a JPEG whose sides are ``side`` pixels at most."""
    colours = picture[-1, ..., :3].expand(-1, -1, 3)
    levels = (colours.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
    image = Image.fromarray(levels.cpu().numpy())
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
