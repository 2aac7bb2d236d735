"""What is told of usable images before a training run."""

from dataclasses import replace

import pytest
import torch
from tiny_backbone import TinyBackbone
from tiny_training import small_config

from acfun_ops.training import training_images
from acfun_ops.training.events import TrainImages
from acfun_ops.training.training_images import prepare_images


def warnings_of(images):
    return prepare_images(TinyBackbone(), images, small_config()).warnings


def noise(seed, height=64, width=64, channels=3):
    return torch.rand(1, height, width, channels, generator=torch.Generator().manual_seed(seed))


PAIR = TrainImages(style=noise(1), face=noise(2))
EDGE = torch.ones(1, 64, 64)
EDGE[:, 16:48, 16:48] = 0


def test_an_ordinary_pair_needs_no_words():
    assert warnings_of(PAIR) == []
    assert warnings_of(replace(PAIR, face_mask=1 - EDGE)) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"style": noise(1) * 2}, "style_image has values outside 0 to 1"),
        ({"face": noise(2) - 0.5}, "face_image has values outside 0 to 1"),
        ({"style": noise(1) * 0}, "style_image has nothing but black"),
        ({"face": noise(2) * 0 + 0.4}, "face_image has nothing but one plain colour"),
        ({"face": noise(2, channels=4)}, "face_image has transparent parts, which become white"),
        ({"face": noise(1)}, "are the same picture"),
        ({"face_mask": EDGE}, "invert it"),
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
    warnings = warnings_of(replace(PAIR, **change))
    assert any(text in warning for warning in warnings), warnings


def test_each_image_and_mask_is_cropped_once(monkeypatch):
    calls = []
    for name in ("crop_images", "crop_masks"):
        crop = getattr(training_images, name)
        monkeypatch.setattr(
            training_images, name, lambda *a, n=name, c=crop: calls.append(n) or c(*a)
        )
    assert warnings_of(replace(PAIR, face_mask=EDGE))
    assert sorted(calls) == ["crop_images", "crop_images", "crop_masks"]
