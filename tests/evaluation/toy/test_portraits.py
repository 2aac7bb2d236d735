"""Drawn portraits: the same every time, true to their people, and labelled with the truth."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.toy.drawings import draw_set
from evaluation.toy.paintings import paint, photograph
from evaluation.toy.people import PROPORTIONS, draw_person, draw_pose, stranger
from evaluation.toy.portraits import Deformation, portray
from evaluation.toy.reader import GROUPS, attributes_of, label_row
from evaluation.toy.styles import BACKDROPS, TEXTURES, Style

GRAYS = ((0.1,) * 3, (0.5,) * 3, (0.9,) * 3)


@pytest.fixture
def person():
    return replace(
        draw_person(np.random.default_rng(0)),
        gender="man",
        hair_color="blond",
        glasses=False,
        beard=False,
        hat=False,
        smile=False,
    )


@pytest.fixture
def pose():
    return replace(draw_pose(np.random.default_rng(1)), roll=0.0)


def test_same_seed_draws_the_same(person, pose):
    one, other = (photograph(person, pose, seed=3).color for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, photograph(person, pose, seed=4).color)


@pytest.mark.parametrize("attribute", ["glasses", "beard", "hat", "smile"])
def test_attribute_shows_in_the_picture(person, pose, attribute):
    without, with_it = portray(person, pose), portray(replace(person, **{attribute: True}), pose)
    assert np.abs(without.color - with_it.color).max() > 0.2


def test_hair_has_its_colour(person, pose):
    hats = {}
    for name in ("black", "blond"):
        portrait = portray(replace(person, hair_color=name), pose)
        x, y = portrait.landmarks["chin"]
        top = int(64 * (2 * portrait.landmarks["nose"][1] - y)) - 12
        hats[name] = portrait.color[max(top, 2) : max(top, 2) + 6, int(64 * x)].mean()
    assert hats["blond"] > hats["black"] + 0.15


def test_landmarks_move_with_the_head(person, pose):
    here, there = portray(person, pose), portray(person, replace(pose, x=pose.x + 0.2))
    for name, (x, y) in here.landmarks.items():
        moved_x, moved_y = there.landmarks[name]
        assert moved_x - x == pytest.approx(0.1)
        assert moved_y == pytest.approx(y)


def test_eyes_are_darkest_where_the_landmarks_say(person, pose):
    portrait = portray(person, pose, side=128)
    for name in ("left_eye", "right_eye"):
        x, y = (int(128 * value) for value in portrait.landmarks[name])
        eye = portrait.color[y - 5 : y + 6, x - 7 : x + 8].mean(axis=-1)
        assert eye.min() < 0.3 < 0.7 < eye.max()


def test_a_proportion_changes_the_picture(person, pose):
    for number, name in enumerate(PROPORTIONS):
        values = list(person.proportions)
        values[number] = -1.0
        low = portray(replace(person, proportions=tuple(values)), pose).color
        values[number] = 1.0
        high = portray(replace(person, proportions=tuple(values)), pose).color
        assert np.abs(low - high).max() > 0.05, name


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("backdrop", BACKDROPS)
def test_every_style_paints(person, pose, texture, backdrop):
    style = Style(GRAYS, texture, keep=0.0, levels=3, outline=0.5, backdrop=backdrop)
    one, other = (paint(person, pose, style, seed).color for seed in (0, 0))
    assert np.array_equal(one, other)
    assert one.shape == (64, 64, 3)
    assert 0 <= one.min() < one.max() <= 1
    plain = replace(style, texture="flat", backdrop="plain")
    if (texture, backdrop) != ("flat", "plain"):
        assert np.abs(one - paint(person, pose, plain, 0).color).mean() > 0.01


def test_palette_takes_the_photos_colours_away(person, pose):
    gray = paint(person, pose, Style(GRAYS, "flat", keep=0.0), 0).color
    assert np.abs(gray - gray.mean(axis=-1, keepdims=True)).max() < 1e-4
    kept = paint(person, pose, Style(GRAYS, "flat", keep=0.8), 0).color
    assert np.abs(kept - kept.mean(axis=-1, keepdims=True)).max() > 0.1


def test_deformation_moves_the_landmarks(person, pose):
    long = portray(person, pose, deformation=Deformation(height=1.3)).landmarks
    assert long["chin"][1] > portray(person, pose).landmarks["chin"][1] + 0.05


def test_a_stranger_is_of_the_same_gender_and_someone_else(person):
    random = np.random.default_rng(7)
    others = [stranger(person, random) for _ in range(20)]
    assert {other.gender for other in others} == {"man"}
    assert len({other.proportions for other in others} | {person.proportions}) == 21


def test_drawn_set_does_not_depend_on_the_workers():
    one, two = draw_set(3, seed=5, workers=1), draw_set(3, seed=5, workers=2)
    assert np.array_equal(one.images, two.images)
    assert one.captions == two.captions
    assert not np.array_equal(one.images, draw_set(3, seed=6, workers=1).images)


def test_labels_are_the_truth(person, pose):
    portrait = portray(person, pose)
    places = list(portrait.landmarks.values())
    row = label_row(person, pose, portrait, is_painting=True)
    groups = dict(zip(GROUPS, row, strict=False))
    assert groups == {**attributes_of(person), "medium": 1}
    assert np.allclose(row[len(GROUPS) : len(GROUPS) + 10].reshape(5, 2) / 4 + 0.5, places)
    assert row[-len(PROPORTIONS) :] == pytest.approx(person.proportions)
