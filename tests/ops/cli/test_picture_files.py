"""Pictures from files of every kind that people have, and back into files."""

import struct
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from acfun_ops.errors import ACFunError
from acfun_ops.image_files import read_image, read_mask, write_image
from acfun_ops.images import to_squares

COLOURS = np.zeros((4, 6, 3), np.uint8)
COLOURS[:, :3] = (255, 128, 0)
COLOURS[:, 3:] = (0, 0, 255)


def saved(folder, image, name="a.png", **options):
    image.save(folder / name, **options)
    return folder / name


def as_colours(picture):
    """Return a picture as training sees it, without the crop."""
    whole = to_squares(picture.repeat_interleave(16, 1).repeat_interleave(16, 2), 64, "it")
    return whole[0, ::16, ::16]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "L", "LA", "1", "PA"])
def test_every_mode_is_read_as_its_colours(tmp_path, mode):
    image = Image.fromarray(COLOURS).convert(mode)
    name = "a.tiff" if mode in ("CMYK", "PA") else "a.png"
    try:
        path = saved(tmp_path, image, name)
    except OSError:
        pytest.skip(f"Pillow writes no {name} of mode {mode}.")
    picture = read_image(path)
    assert picture.shape[:3] == (1, 4, 6) and picture.dtype == torch.float32
    assert picture.min() >= 0 and picture.max() <= 1
    expected = torch.from_numpy(np.array(image.convert("RGB"))).float() / 255
    assert torch.allclose(as_colours(picture), expected[:, 1:5], atol=1 / 255)


def test_a_picture_of_16_bits_is_not_clipped(tmp_path):
    levels = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)
    picture = read_image(saved(tmp_path, Image.fromarray(levels)))
    assert torch.allclose(picture[0, ..., 0], torch.from_numpy(levels.astype(np.float32)) / 65535)


def tiff(folder, values, bits, kind=1, photometric=1):
    """Write a grey TIFF by hand: Pillow writes no 12 bits and no 16 that count down from white."""
    data, (height, width) = values, np.shape(values) if bits != 12 else (4, 6)
    content = bytes(data) if bits == 12 else np.ascontiguousarray(data).tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8}
    tags |= {277: 1, 278: height, 279: len(content), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<2sHI", b"II", 42, 8 + len(content))
    path = folder / "deep.tiff"
    path.write_bytes(head + content + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


RAMP = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)


def packed_12_bits(levels):
    pairs = levels.reshape(-1, 2).astype(int)
    return bytes(b for one, two in pairs for b in (one >> 4, (one & 15) << 4 | two >> 8, two & 255))


def test_deep_tiffs_are_read_right(tmp_path):
    sixteen = (RAMP * 65535).round().astype("<u2")
    files = {
        "float": (RAMP, 32, 3),
        "16 bits": (sixteen, 16),
        "white is 0": (65535 - sixteen, 16, 1, 0),
        "12 bits": (packed_12_bits((RAMP * 4095).round()), 12),
    }
    for name, arguments in files.items():
        picture = read_image(tiff(tmp_path, *arguments))
        assert np.allclose(picture[0, ..., 0], RAMP, atol=1 / 4000), name


@pytest.mark.parametrize(
    ("values", "bits", "kind"),
    [
        (RAMP * 255, 32, 3),
        (RAMP - 0.1, 32, 3),
        (RAMP * np.nan, 32, 3),
        ((RAMP * 2e9).astype("<u4"), 32, 1),
        ((RAMP * 2e9).astype("<i4"), 32, 2),
        ((RAMP * 30000).astype("<i2"), 16, 2),
    ],
)
def test_deep_tiffs_without_a_white_are_refused(tmp_path, values, bits, kind):
    with pytest.raises(ACFunError, match=rf"numbers of {bits} bits .* Save it as a picture of 8"):
        read_image(tiff(tmp_path, values, bits, kind))


def test_a_picture_that_is_too_large_is_to_be_made_smaller(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(COLOURS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 23)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11)
    with pytest.raises(ACFunError, match=r"more than 22 pixels\. Make it smaller"):
        read_image(path)


def test_alpha_comes_along(tmp_path):
    image = Image.fromarray(COLOURS).convert("RGBA")
    image.putalpha(51)
    picture = read_image(saved(tmp_path, image))
    assert picture.shape[-1] == 4 and torch.allclose(picture[..., 3], torch.tensor(0.2))
    palette = Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE)
    path = saved(tmp_path, palette, transparency=palette.getpixel((0, 0)))
    assert read_image(path)[0, 0, :, 3].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned by a quarter.
    path = saved(tmp_path, Image.fromarray(COLOURS), exif=exif)
    picture = read_image(path)
    assert picture.shape == (1, 6, 4, 3)
    assert picture[0, 0, 0].tolist() == pytest.approx([1, 128 / 255, 0], abs=1e-6)


def test_a_mask_is_white_where_it_counts_whatever_its_mode(tmp_path):
    levels = np.array([[0, 255], [255, 0]], np.uint8)
    grey = Image.fromarray(levels)
    for mode in ("L", "RGB", "RGBA", "1"):
        mask = read_mask(saved(tmp_path, grey.convert(mode)))
        assert torch.equal(mask, torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"no picture", "cannot identify"),
        (b"", "cannot identify"),
        ("cut", "could not be read"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(tmp_path, content, message):
    path = tmp_path / "a.png"
    if content == "cut":
        content = saved(tmp_path, Image.fromarray(COLOURS)).read_bytes()[:60]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ACFunError, match=message) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ACFunError, match="could not be read"):
        read_image(tmp_path)


def test_a_written_picture_reads_as_itself(tmp_path):
    picture = torch.from_numpy(COLOURS).float()[None] / 255
    write_image(picture, tmp_path / "deep" / "a.png")
    assert torch.equal(read_image(tmp_path / "deep" / "a.png"), picture)
    for name in ("a.jpg", "a.webp"):
        write_image(picture, tmp_path / name)
        assert read_image(tmp_path / name).shape == picture.shape


def test_a_name_that_says_no_kind_of_picture_is_refused(tmp_path):
    with pytest.raises(ACFunError, match=r"does not end in \.png"):
        write_image(torch.zeros(1, 4, 4, 3), tmp_path / "a.bmp")
