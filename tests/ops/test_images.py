"""Pictures and masks: what is taken, what is refused, and what becomes of it."""

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acfun_ops.errors import ACFunError
from acfun_ops.images import check_images, crop_masks, image_hash, resize_masks, to_squares


def prepared(pictures, side=64):
    return to_squares(pictures, side, "style_image")


def test_grey_becomes_three_equal_channels(generator):
    grey = torch.rand(2, 64, 64, 1, generator=generator)
    assert torch.equal(prepared(grey), grey.expand(-1, -1, -1, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_laid_over_white(channels, generator):
    colour = torch.rand(1, 64, 64, channels, generator=generator)
    alpha = torch.rand(1, 64, 64, 1, generator=generator)
    expected = (colour * alpha + 1.0 * (1 - alpha)).expand(-1, -1, -1, 3)
    assert torch.allclose(prepared(torch.cat([colour, alpha], dim=-1)), expected)


def test_transparent_pixels_are_white_and_opaque_ones_keep_their_colour():
    pictures = torch.zeros(1, 64, 64, 4)
    pictures[:, :32, :, 3] = 1
    result = prepared(pictures)
    assert (result[:, :32] == 0).all()
    assert (result[:, 32:] == 1).all()


@pytest.mark.parametrize(
    ("height", "width", "crop"),
    [
        (64, 64, (slice(0, 64), slice(0, 64))),
        (64, 97, (slice(0, 64), slice(16, 80))),
        (97, 64, (slice(16, 80), slice(0, 64))),
        (64, 256, (slice(0, 64), slice(96, 160))),
    ],
)
def test_square_is_cut_from_the_centre(height, width, crop, generator):
    pictures = torch.rand(2, height, width, 3, generator=generator)
    assert torch.equal(prepared(pictures), pictures[:, crop[0], crop[1]])


@given(
    height=st.integers(64, 130),
    width=st.integers(64, 130),
    channels=st.integers(1, 4),
    side=st.sampled_from([32, 64, 128]),
)
def test_every_size_gives_rgb_squares_in_range(height, width, channels, side):
    generator = torch.Generator().manual_seed(height * width)
    pictures = torch.rand(1, height, width, channels, generator=generator) * 3 - 1
    result = prepared(pictures, side)
    assert result.shape == (1, side, side, 3)
    assert result.dtype == torch.float32
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_is_taken(dtype):
    result = prepared(torch.full((1, 64, 64, 3), 0.5, dtype=dtype, requires_grad=True))
    assert torch.equal(result, torch.full((1, 64, 64, 3), 0.5))
    assert not result.requires_grad


def test_resizing_keeps_colour_and_averages_detail():
    stripes = torch.zeros(1, 256, 256, 3)
    stripes[:, ::2] = 1
    centre = prepared(stripes)[:, 8:-8]
    assert torch.allclose(centre, torch.full_like(centre, 0.5), atol=0.01)


def test_large_pictures_are_taken():
    result = prepared(torch.full((1, 2000, 8000, 1), 0.25))
    assert torch.allclose(result, torch.full((1, 64, 64, 3), 0.25), atol=1e-6)


def bad(value):
    pictures = torch.zeros(1, 64, 64, 3)
    pictures[0, 5, 6, 1] = value
    return pictures


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (torch.zeros(64, 64, 3), r"channels; found \(64, 64, 3\)\. Convert it"),
        (torch.zeros(1, 3, 64, 64), r"shape .* found \(1, 3, 64, 64\)"),
        (torch.zeros(1, 64, 64, 5), r"1 to 4 channels; found \(1, 64, 64, 5\)"),
        (torch.zeros(1, 64, 64, 0), r"1 to 4 channels"),
        (torch.zeros(0, 64, 64, 3), "empty batch: at least one picture"),
        (torch.zeros(1, 1, 1, 3), "is 1 x 1 pixels; each side must be 64 or more"),
        (torch.zeros(1, 63, 90, 3), "is 90 x 63 pixels; each side must be 64"),
        (torch.zeros(1, 64, 257, 3), "is 257 x 64 pixels.* at most 4 : 1"),
        (torch.zeros(1, 8000, 64, 1), "is 64 x 8000 pixels.* Crop it first"),
        (bad(float("nan")), "NaN or infinite values"),
        (bad(float("inf")), "NaN or infinite values"),
    ],
)
def test_unusable_pictures_are_refused_by_name(pictures, message):
    with pytest.raises(ACFunError, match=f"^face_image .*{message}"):
        to_squares(pictures, 64, "face_image")


PHOTO = torch.zeros(2, 96, 64, 3)


def prepare_mask(mask, photos, side):
    return resize_masks(crop_masks(mask, check_images(photos, "face_image")), side)


@pytest.mark.parametrize(
    "shape", [(96, 64), (1, 96, 64), (2, 96, 64), (10, 7), (2, 300, 100), (2, 1, 9, 9)]
)
def test_mask_of_any_size_has_mean_one(shape, generator):
    mask = prepare_mask(torch.rand(shape, generator=generator), PHOTO, 8)
    assert mask.shape == (2, 1, 8, 8)
    assert torch.allclose(mask.mean(dim=(1, 2, 3)), torch.ones(len(mask)))
    assert mask.min() >= 0


def test_mask_is_cropped_as_its_photo_is():
    mask = torch.zeros(96, 64)
    mask[16:48] = 1  # the upper half of the centred square
    result = prepare_mask(mask, PHOTO, 8)[0, 0]
    assert torch.allclose(result[:3], torch.full((3, 8), 2.0), atol=1e-5)
    assert torch.allclose(result[5:], torch.zeros(3, 8), atol=1e-5)


def test_mask_is_clamped():
    half = torch.ones(96, 64)
    half[:, :32] = 0
    assert torch.equal(prepare_mask(half * 9 - 1, PHOTO, 8), prepare_mask(half, PHOTO, 8))


def outside_crop():
    mask = torch.zeros(96, 64)
    mask[:12] = 1
    return mask


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(96, 64), "empty inside the centred square"),
        (torch.stack([torch.ones(96, 64), torch.zeros(96, 64)]), "empty inside"),
        (outside_crop(), "Paint the face or leave the mask out"),
        (torch.ones(3, 96, 64), r"one per face photo \(2\); found 3"),
        (torch.ones(1, 2, 96, 64), r"\(batch, height, width\); found \(1, 2, 96, 64\)"),
        (torch.ones(64), r"found \(64,\)"),
        (torch.ones(0, 96, 64), r"is empty: it has the shape \(0, 96, 64\)"),
        (torch.ones(2, 0, 64), r"is empty: it has the shape \(2, 0, 64\)"),
        (torch.full((96, 64), float("nan")), "NaN or infinite values"),
    ],
)
def test_unusable_masks_are_refused(mask, message):
    with pytest.raises(ACFunError, match=f"face_mask.*{message}"):
        prepare_mask(mask, PHOTO, 8)


def test_picture_hash_is_that_of_its_bytes():
    pictures = torch.tensor([0.0, 1.0, 0.5, 0.2]).view(1, 2, 2, 1)
    expected = hashlib.sha256(b"(1, 2, 2, 1)" + bytes([0, 255, 128, 51])).hexdigest()
    assert image_hash(pictures) == expected
    assert image_hash(pictures + 1e-4) == expected


def test_picture_hash_tells_pictures_and_shapes_apart(generator):
    pictures = torch.rand(2, 3, 4, 3, generator=generator)
    others = [pictures.flip(0), pictures.view(2, 4, 3, 3), pictures[:1], 1 - pictures]
    hashes = {image_hash(p) for p in (pictures, *others)}
    assert len(hashes) == 5
