"""The evaluation's pairs are always the same, unseen in training, and have true answers."""

import numpy as np
import pytest

from evaluation.toy.evaluation_pairs import EXTRAS, make_pair
from evaluation.toy.paintings import paint
from evaluation.toy.reader import attributes_of
from evaluation.toy.styles import HELD_OUT, TEXTURES, UNTAUGHT, draw_style


@pytest.fixture(scope="module")
def pairs():
    return [make_pair(number) for number in range(len(HELD_OUT) + 2)]


def test_pairs_are_the_same_every_time(pairs):
    again = make_pair.__wrapped__(0)
    assert np.array_equal(again.truth, pairs[0].truth)
    assert not np.array_equal(pairs[0].truth, pairs[len(HELD_OUT)].truth)
    assert pairs[0].named == pairs[len(HELD_OUT)].named


def test_truth_is_the_person_in_the_style(pairs):
    for number, pair in enumerate(pairs):
        truth = paint(pair.person, pair.pose, pair.named.style, number).color
        assert np.array_equal(truth, pair.truth)
        assert not np.array_equal(pair.truth, pair.sitter_truth)
        assert len(pair.distractors) == 20


def test_sitter_differs_and_nobody_has_the_extra(pairs):
    for pair in pairs:
        ours, theirs = attributes_of(pair.person), attributes_of(pair.sitter)
        assert sum(ours[group] != theirs[group] for group in ours) >= 2
        assert pair.extra in EXTRAS
        assert not getattr(pair.person, pair.extra)
        assert not getattr(pair.sitter, pair.extra)


def test_no_training_style_is_a_held_out_one():
    random = np.random.default_rng(0)
    dark = {held.style.palette[0] for held in HELD_OUT.values()}
    drawn = [draw_style(random).style for _ in range(300)]
    assert not dark & {style.palette[0] for style in drawn}
    assert {style.texture for style in drawn} == set(TEXTURES)


def test_held_out_strokes_are_of_taught_families_and_of_two_others():
    families = {held.style.texture for held in HELD_OUT.values()}
    assert families == {*TEXTURES, *UNTAUGHT}
