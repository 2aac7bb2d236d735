"""Each distance is zero for equal pictures, sees its own side, and is blind to the others."""

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.metrics.image_statistics import (
    colour_distance,
    lab,
    pixel_distance,
    structure_correlation,
    texture_distance,
    variety,
)


def smooth(side: int = 64, seed: int = 0) -> NDArray[np.float64]:
    """A picture of a few broad blobs."""
    random = np.random.default_rng(seed)
    down, across = np.mgrid[0:side, 0:side] / side
    picture = np.zeros((side, side, 3))
    for _ in range(6):
        centre, colour = random.random(2), random.random(3)
        near = np.exp(-((down - centre[0]) ** 2 + (across - centre[1]) ** 2) / 0.03)
        picture += near[..., None] * colour * 0.5
    return picture.clip(0, 1)


def add_strokes(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """The picture with fine stripes over it, which leave its mean colours alone."""
    stripes = 0.15 * np.where(np.arange(picture.shape[1]) % 4 < 2, 1, -1)
    return (0.2 + 0.6 * picture + stripes[None, :, None]).clip(0, 1)


def shuffled(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = picture.reshape(-1, 3)
    return np.random.default_rng(0).permutation(flat).reshape(picture.shape)


@pytest.mark.parametrize("distance", [colour_distance, texture_distance, pixel_distance])
def test_distance_of_equal_pictures_is_zero_and_of_others_is_not(distance):
    assert distance(smooth(), smooth()) == 0
    assert distance(smooth(), add_strokes(smooth(seed=1))) > 0
    assert distance(smooth(), smooth(seed=1)) == pytest.approx(distance(smooth(seed=1), smooth()))


def test_lab_of_known_colours():
    colours = np.array([[[1.0, 1, 1], [0, 0, 0], [1, 0, 0]]])
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]]
    assert np.allclose(lab(colours)[0], expected, atol=0.05)


def test_colour_distance_is_blind_to_where_colours_stand_and_to_the_size():
    assert colour_distance(smooth(), shuffled(smooth())) == pytest.approx(0, abs=1e-9)
    assert colour_distance(smooth(64), smooth(32)) < 0.5
    greener = smooth() * [1, 1, 0.5]
    assert colour_distance(smooth(), greener) > 2


def test_colour_distance_is_the_shift_of_lightness():
    dark, light = np.full((8, 8, 3), 0.4), np.full((8, 8, 3), 0.6)
    shift = (lab(light) - lab(dark))[0, 0, 0]
    # A projection sees a share of the shift; the mean share over the sphere is one half.
    assert colour_distance(dark, light) == pytest.approx(shift / 2, rel=0.2)


def test_texture_distance_sees_strokes_and_not_colour():
    strokes = texture_distance(smooth(), add_strokes(smooth()))
    # Equal lightness steps in other colours, paler and brighter.
    grey = np.repeat(smooth().mean(axis=-1, keepdims=True), 3, axis=-1)
    assert texture_distance(grey, grey * 0.5 + 0.3) < 0.1 * strokes
    assert texture_distance(grey, grey * [1.0, 0.8, 0.8]) < 0.1 * strokes
    assert strokes > 1


def test_texture_distance_is_nearer_for_the_same_strokes_on_another_picture():
    first, second = add_strokes(smooth(seed=1)), add_strokes(smooth(seed=2))
    assert texture_distance(first, second) < 0.5 * texture_distance(first, smooth(seed=1))


def test_texture_distance_is_blind_to_mirroring():
    picture = add_strokes(smooth()) + 0.1 * np.eye(64)[..., None]
    assert texture_distance(picture, picture[:, ::-1]) == pytest.approx(0, abs=1e-2)


def test_flat_pictures_have_statistics_too():
    flat = np.full((64, 64, 3), 0.5)
    assert np.isfinite(texture_distance(flat, smooth()))
    assert structure_correlation(flat, smooth()) == 0


def test_structure_correlation_sees_layout_and_not_colour():
    assert structure_correlation(smooth(), smooth()) == pytest.approx(1)
    assert structure_correlation(smooth(), 0.3 + 0.5 * smooth()) > 0.95
    assert structure_correlation(smooth(), add_strokes(smooth())) > 0.9
    assert abs(structure_correlation(smooth(), shuffled(smooth()))) < 0.3
    assert structure_correlation(smooth(), smooth()[::-1]) < 0.8


def test_variety_is_zero_for_copies_and_grows_with_difference():
    base, other = smooth(), smooth(seed=1)
    assert variety([base, base, base]) == 0
    assert variety([base, other]) == pytest.approx(pixel_distance(base, other))
    assert 0 < variety([base, base, other]) < variety([base, other])
    with pytest.raises(ValueError, match="two or more"):
        variety([base])
