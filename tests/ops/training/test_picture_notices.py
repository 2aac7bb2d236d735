"""What is told of usable pictures before a training."""

from dataclasses import replace

import pytest
import torch

from acfun_ops.training.events import TrainPictures
from acfun_ops.training.image_warnings import picture_notices


def noise(seed, height=64, width=64, channels=3):
    return torch.rand(1, height, width, channels, generator=torch.Generator().manual_seed(seed))


PAIR = TrainPictures(style=noise(1), face=noise(2))
EDGE = torch.ones(1, 64, 64)
EDGE[:, 16:48, 16:48] = 0


def test_an_ordinary_pair_needs_no_words():
    assert picture_notices(PAIR) == []
    assert picture_notices(replace(PAIR, face_mask=1 - EDGE)) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"style": noise(1) * 2}, "style_image has values outside 0 to 1"),
        ({"face": noise(2) - 0.5}, "face_image has values outside 0 to 1"),
        ({"style": noise(1) * 0}, "style_image has nothing but black"),
        ({"face": noise(2) * 0 + 0.4}, "face_image has nothing but one plain colour"),
        ({"face": noise(2, channels=4)}, "face_image has transparent parts, which become white"),
        ({"face": noise(1)}, "are the same picture"),
        ({"face_mask": EDGE}, "put InvertMask in between"),
        (
            {"face": noise(2, 96, 64)},
            "face_image is cut to the centred square (64 x 96 -> 64 x 64).",
        ),
        (
            {"style": [noise(1), noise(3, 64, 80)]},
            "style_image (1 of 2) is cut to the centred square (80 x 64 -> 64 x 64).",
        ),
        ({"style": noise(1).expand(200, -1, -1, -1)}, "style pictures: 8 of 200, evenly spread,"),
        ({"face": [noise(2), noise(3)]}, "style pictures: 1 and face photos: 2."),
    ],
)
def test_what_may_not_be_meant_is_said(change, text):
    notices = picture_notices(replace(PAIR, **change))
    assert any(text in notice for notice in notices), notices
