"""Tells whose face a picture shows, and in which style, by the reader of evaluation/toy."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from small_prior_graphs import SIDE

from evaluation.metrics.image_statistics import colour_distance
from evaluation.toy.draw_examples import FACE, POSE, SITTER, SITTER_POSE, STYLE
from evaluation.toy.paintings import paint
from evaluation.toy.people import Person, draw_person, draw_pose, stranger
from evaluation.toy.reader import Reader, identity, load_reader
from evaluation.toy.styles import HELD_OUT

STRANGERS = 20


def is_found(picture: np.ndarray, number: int) -> bool:
    """Tell whether a drawn picture looks more like a person than like any of 20 strangers.

    Args:
        picture: ``(SIDE, SIDE, 3)`` in uint8.
        number: of the person, see ``evaluation.toy.draw_examples``.
    """
    random = np.random.default_rng(0)
    sought = person(FACE)
    strangers = [stranger(sought, random) for _ in range(STRANGERS)]
    known = [person(number), *strangers]
    if number != FACE:
        known.append(sought)
    seen, line_up = (identity_of(p) for p in (picture[None] / 255, [painted(k) for k in known]))
    return int(torch.cdist(seen, line_up).argmin()) == 0


def style_of(picture: np.ndarray) -> str:
    """Return the name of the style, of all that the prior has never seen, of nearest colours."""
    sitter, pose = person(SITTER), draw_pose(np.random.default_rng(SITTER_POSE))
    paintings = {
        name: paint(sitter, pose, named.style, SITTER, SIDE).color
        for name, named in HELD_OUT.items()
    }
    return min(paintings, key=lambda name: colour_distance(picture / 255, paintings[name]))


def person(number: int) -> Person:
    """Return the person of a number."""
    return draw_person(np.random.default_rng(number))


def painted(who: Person) -> np.ndarray:
    """Return someone as the example's style picture would show them in the photo's pose."""
    pose = draw_pose(np.random.default_rng(POSE))
    return paint(who, pose, HELD_OUT[STYLE].style, FACE, SIDE).color


def identity_of(pictures: list[np.ndarray] | np.ndarray) -> torch.Tensor:
    """Return what tells the people on pictures apart."""
    reader = the_reader()
    reading = reader.read(torch.from_numpy(np.stack(pictures)).float())
    return identity(reading, reader.trust)


@cache
def the_reader() -> Reader:
    """Return the benchmark's reader."""
    return load_reader()
