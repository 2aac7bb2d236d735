"""The evaluation's pairs: people and styles that the prior has never seen, and true answers."""

from dataclasses import dataclass, replace

import numpy as np

from .held_out_styles import HELD_OUT
from .labels import attributes_of
from .paintings import paint, photograph
from .people import Person, Pose, draw_person, draw_pose, stranger
from .portraits import Plane
from .styles import Named

SEED = 20_000_000
DISTRACTORS = 20
# The first that neither picture has is asked for.
EXTRAS = ("hat", "glasses", "smile")


@dataclass(frozen=True)
class HeldOutPair:
    """A face, a style, and what is true of both.

    person, pose: of the face photo. sitter: who is on the style picture. face, style, truth:
    ``(64, 64, 3)`` in [0, 1]; truth is the person in the style, in the photo's pose. sitter_truth:
    the sitter likewise. distractors: others of the same gender likewise. extra: the attribute to
    prompt for. spliced: the photo with everything below the row ``seam`` from someone else's.
    """

    name: str
    person: Person
    pose: Pose
    sitter: Person
    named: Named
    face: Plane
    style: Plane
    truth: Plane
    sitter_truth: Plane
    distractors: tuple[Plane, ...]
    extra: str
    spliced: Plane
    seam: int


def held_out_pairs(count: int, side: int = 64) -> list[HeldOutPair]:
    """Return ``count`` pairs, going round the held-out styles; the same ones every time."""
    return [held_out_pair(number, side) for number in range(count)]


def held_out_pair(number: int, side: int = 64) -> HeldOutPair:
    """Return one of the pairs."""
    random = np.random.default_rng((SEED, number))
    names = list(HELD_OUT)
    style_name = names[number % len(names)]
    named = HELD_OUT[style_name]
    person, pose = draw_person(random), draw_pose(random)
    sitter, sitter_pose = _sitter(person, random), draw_pose(random)
    if all(getattr(person, extra) or getattr(sitter, extra) for extra in EXTRAS):
        person, sitter = replace(person, hat=False), replace(sitter, hat=False)
    free = [e for e in EXTRAS if not getattr(person, e) and not getattr(sitter, e)]

    photo = photograph(person, pose, number, side)
    distractors = [stranger(person, random) for _ in range(DISTRACTORS)]
    seam = round(side * photo.landmarks["nose"][1]) - side // 16
    spliced = photo.color.copy()
    spliced[seam:] = photograph(distractors[0], pose, number, side).color[seam:]

    def painted(who: Person) -> Plane:
        return paint(who, pose, named.style, number, side).color

    return HeldOutPair(
        name=f"{number:02d} {style_name}",
        person=person,
        pose=pose,
        sitter=sitter,
        named=named,
        face=photo.color,
        style=paint(sitter, sitter_pose, named.style, number + SEED, side).color,
        truth=painted(person),
        sitter_truth=painted(sitter),
        distractors=tuple(painted(other) for other in distractors),
        extra=free[0],
        spliced=spliced,
        seam=seam,
    )


def _sitter(person: Person, random: np.random.Generator) -> Person:
    """Return someone who differs from a person in at least three attributes."""
    while True:
        sitter = draw_person(random)
        ours, theirs = attributes_of(person), attributes_of(sitter)
        if sum(ours[group] != theirs[group] for group in ours) >= 3:
            return sitter
