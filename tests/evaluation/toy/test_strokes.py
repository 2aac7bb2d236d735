"""Strokes are seen in every family, in the face too, and one family is told from another."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.metrics.image_statistics import texture_distance
from evaluation.toy.paintings import paint, photograph
from evaluation.toy.people import draw_person, draw_pose
from evaluation.toy.styles import HELD_OUT, TEXTURES, UNTAUGHT, draw_style, stroke_words

FAMILIES = (*TEXTURES, *UNTAUGHT)


@pytest.fixture(scope="module")
def sitters():
    random = np.random.default_rng(3)
    return [(draw_person(random), draw_pose(random)) for _ in range(6)]


@pytest.fixture(scope="module")
def styles():
    random = np.random.default_rng(4)
    return {family: draw_style(random, (family,)).style for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_style_is_known_by_its_strokes(sitters, family):
    """Other people in a style are nearer in texture than photos of them, over six styles."""
    random = np.random.default_rng(5)
    same, photographed = [], []
    for (one, one_pose), (other, other_pose) in zip(
        sitters, sitters[1:] + sitters[:1], strict=True
    ):
        style = draw_style(random, (family,)).style
        ours = paint(one, one_pose, style, 0).color
        same.append(texture_distance(ours, paint(other, other_pose, style, 1).color))
        photographed.append(texture_distance(ours, photograph(other, other_pose, 2).color))
    assert np.mean(same) < 0.8 * np.mean(photographed)


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_lays_the_same_strokes(sitters, styles, family):
    one, other, third = (paint(*sitters[0], styles[family], seed).color for seed in (5, 5, 6))
    assert np.array_equal(one, other)
    assert np.array_equal(one, third) == (family == "flat")


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "flat"])
def test_strokes_are_three_pixels_wide_and_more(sitters, styles, family):
    """Most of what strokes add is left when the picture is seen at two pixels in one."""
    smooth = replace(styles[family], texture="flat", outline=0.0)
    add_strokes = replace(styles[family], outline=0.0)
    added = paint(*sitters[0], add_strokes, 0).color - paint(*sitters[0], smooth, 0).color
    coarse = added.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert added.std() > 0.04
    assert coarse.std() > 0.6 * added.std()


def test_strokes_run_through_the_face_and_leave_its_features(sitters):
    style = HELD_OUT["sunset brush"].style
    portrait = photograph(*sitters[0], 0)
    flat = paint(*sitters[0], replace(style, texture="flat"), 0)
    added = np.abs(paint(*sitters[0], style, 0).color - flat.color).mean(axis=-1)
    features = (flat.ink > 0.5) & (portrait.figure > 0.5)
    plain = (flat.ink < 0.05) & (portrait.figure > 0.5)
    assert added[plain].mean() > 0.02
    assert added[features].mean() < 0.6 * added[plain].mean()


def test_words_for_strokes_say_spacing_and_outlines():
    red, wash = (HELD_OUT[name].style for name in ("red woodcut", "orange weave"))
    assert stroke_words(red) == "with bold strokes and outlines"
    assert stroke_words(replace(wash, period=4.6, outline=0.0)) == "with fine strokes"
    assert stroke_words(HELD_OUT["teal poster"].style) == "with outlines"
