"""Images and masks from files, Pillow and numpy as tensors, and images into files."""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from PIL import Image, ImageOps
from torch import Tensor

from .errors import ACFunError, first_line
from .file_io import write_whole

Values = npt.NDArray[np.float32]

_DIRECT = ("L", "LA", "RGB", "RGBA")
# TIFF's tags: bits of a number, whether it is unsigned, signed or a float, and what 0 means.
_BITS, _KIND, _PHOTOMETRIC = 258, 339, 262


def read_image(path: Path) -> Tensor:
    """Read a picture, turned as its camera says; ``(1, h, w, c)`` in [0, 1], c of 1 to 4.

    Raises:
        ACFunError: the file is missing, no picture that can be read whole, too large, or holds
            numbers of which nobody can say how bright they are.
    """
    with _explain_errors(str(path)), _open(path) as file:
        return _read_levels(file, str(path))


def to_tensor(image: object) -> Tensor:
    """Return an image of Pillow or numpy as ``(b, h, w, c)`` in [0, 1], b of 1 but for a batch.

    Pillow's is read as :func:`read_image` reads a file. Of numpy ``(h, w)``, ``(h, w, c)`` and
    ``(b, h, w, c)`` are taken: floats in [0, 1], truth values, or unsigned integers up to their
    largest, which is 1.

    Raises:
        ACFunError: it is neither, of other numbers, or cannot be read.
    """
    if isinstance(image, Image.Image):
        with _explain_errors("The image"):
            return _read_levels(image, "The image")
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "buf":
        raise ACFunError(
            "An image is of type {kind}; expected a tensor, a Pillow image, or a numpy array of "
            "unsigned integers or of floats in [0, 1]. Convert it.",
            kind=getattr(image, "dtype", type(image).__name__),
        )
    whole = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    levels = torch.from_numpy(image.astype(np.float32)) / whole
    levels = levels[..., None] if levels.ndim == 2 else levels
    return levels[None] if levels.ndim == 3 else levels


def to_mask(image: object) -> Tensor:
    """Return a mask of Pillow or numpy as ``(b, h, w)`` in [0, 1]; see :func:`to_tensor`.

    Of numpy ``(b, h, w)`` is taken, too.
    """
    if isinstance(image, np.ndarray) and image.ndim == 3:
        image = image[..., None]
    return _mean_colour(to_tensor(image))


@contextmanager
def _explain_errors(name: str) -> Iterator[None]:
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ACFunError(
            f"{name} is too large to be read: it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} "
            "pixels. Make it smaller, such as 2000 pixels wide."
        ) from error
    except (OSError, SyntaxError, struct.error, TypeError, ValueError) as error:
        if isinstance(error, ACFunError):
            raise
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ACFunError(
            f"{name} could not be read as a picture: {reason}. Give a whole PNG, JPEG or WebP file."
        ) from error


def _read_levels(file: Image.Image, name: str) -> Tensor:
    image = ImageOps.exif_transpose(file)
    if image.mode.startswith(("I", "F")):  # More than 8 bits, which Pillow would clip.
        levels = torch.from_numpy(_deep_levels(file, np.asarray(image, np.float32), name))
    else:
        has_alpha = "transparency" in image.info or image.mode in ("PA", "La", "RGBa")
        if image.mode not in _DIRECT or has_alpha:
            image = image.convert("RGBA" if has_alpha else "RGB")
        levels = torch.from_numpy(np.array(image)).float() / 255
    return (levels if levels.ndim == 3 else levels[..., None])[None]


def _open(path: Path) -> Image.Image:
    with warnings.catch_warnings():  # A photo of 100 megapixels is no attack.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)


def _deep_levels(file: Image.Image, values: Values, name: str) -> Values:
    """Return a grey picture of more than 8 bits in [0, 1]; ``values`` are its numbers."""
    tags = getattr(file, "tag_v2", {})
    bits = max(tags.get(_BITS, (32,) if file.mode == "F" else (16,)))
    kind = max(tags.get(_KIND, (3,) if file.mode == "F" else (1,)))
    white = {(1, 12): 4095.0, (1, 16): 65535.0, (3, 32): 1.0}.get((kind, bits))
    # Not <= alone: NaN is in no range.
    if white is None or not (values.min() >= 0 and values.max() <= white):
        raise ACFunError(
            f"{name} holds numbers of {bits} bits from {values.min():g} to {values.max():g}, which "
            "do not say what white is. Save it as a picture of 8 or 16 bits."
        )
    levels: Values = values / np.float32(white)
    return 1 - levels if tags.get(_PHOTOMETRIC) == 0 else levels


def read_mask(path: Path) -> Tensor:
    """Read a mask, ``(1, h, w)`` in [0, 1]; white counts.

    Raises:
        ACFunError: see :func:`read_image`.
    """
    return _mean_colour(read_image(path))


def _mean_colour(picture: Tensor) -> Tensor:
    colours = picture[..., :-1] if picture.shape[-1] in (2, 4) else picture
    return colours.mean(dim=-1)


def check_image_name(path: Path) -> None:
    """Refuse a name that says no kind of picture that can be written.

    Raises:
        ACFunError: its ending is unknown.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ACFunError(f"{path} does not end in .png, .jpg or .webp. Choose such a name.")


def to_pil(image: Tensor) -> Image.Image:
    """Return an image ``(1, h, w, 3)`` in [0, 1] as a Pillow image."""
    levels = (rearrange(image, "1 h w c -> h w c").clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.cpu().numpy())


def write_image(image: Tensor | Image.Image, path: Path) -> None:
    """Write an image; the file is complete or absent.

    Args:
        image: a Pillow image, or a tensor ``(1, h, w, 3)`` in [0, 1].
        path: its ending names the format.

    Raises:
        ACFunError: it could not be written, or its name ends in no known format.
    """
    check_image_name(path)
    content = io.BytesIO()
    image = to_pil(image) if isinstance(image, Tensor) else image
    image.save(content, Image.registered_extensions()[path.suffix.lower()], quality=95)
    write_whole(content.getvalue(), path, "picture")
