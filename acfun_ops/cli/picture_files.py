"""Pictures and masks from files, and pictures into files."""

import io
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import ACFunError, first_line
from ..style.whole_files import write_whole

_DIRECT = ("L", "LA", "RGB", "RGBA")


def read_picture(path: Path) -> Tensor:
    """Read a picture, turned as its camera says; ``(1, h, w, c)`` in [0, 1], c of 1 to 4.

    Raises:
        ACFunError: the file is missing or no picture that can be read whole.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            has_alpha = "transparency" in image.info or image.mode in ("PA", "La", "RGBa")
            if image.mode.startswith(("I", "F")):  # 16 bits per pixel, which Pillow would clip.
                deep = np.asarray(image, dtype=np.float32)
                return torch.from_numpy(deep / 65535)[None, ..., None]
            if image.mode not in _DIRECT or has_alpha:
                image = image.convert("RGBA" if has_alpha else "RGB")
            levels = torch.from_numpy(np.array(image)).float() / 255
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ACFunError(
            f"{path} could not be read as a picture: {reason}. Give a whole PNG, JPEG or WebP file."
        ) from error
    return (levels if levels.ndim == 3 else levels[..., None])[None]


def read_mask(path: Path) -> Tensor:
    """Read a mask, ``(1, h, w)`` in [0, 1]; white counts.

    Raises:
        ACFunError: see :func:`read_picture`.
    """
    picture = read_picture(path)
    colours = picture[..., :-1] if picture.shape[-1] in (2, 4) else picture
    return colours.mean(dim=-1)


def check_picture_name(path: Path) -> None:
    """Refuse a name that says no kind of picture that can be written.

    Raises:
        ACFunError: its ending is unknown.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ACFunError(f"{path} does not end in .png, .jpg or .webp. Choose such a name.")


def write_picture(picture: Tensor, path: Path) -> None:
    """Write a picture ``(1, h, w, 3)`` in [0, 1]; the file is whole or absent.

    Raises:
        ACFunError: it could not be written, or its name says no kind of picture.
    """
    write_image(to_image(picture), path)


def to_image(picture: Tensor) -> Image.Image:
    """Return a picture ``(1, h, w, 3)`` in [0, 1] as a Pillow image."""
    levels = (rearrange(picture, "1 h w c -> h w c").clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.cpu().numpy())


def write_image(image: Image.Image, path: Path) -> None:
    """Write a Pillow image; the file is whole or absent.

    Raises:
        ACFunError: it could not be written, or its name says no kind of picture.
    """
    check_picture_name(path)
    content = io.BytesIO()
    image.save(content, Image.registered_extensions()[path.suffix.lower()], quality=95)
    write_whole(content.getvalue(), path, "picture")
