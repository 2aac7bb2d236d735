"""The evaluation's pairs: people and styles that the prior has never seen, and true answers."""

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from .paintings import paint, photograph
from .people import Person, Pose, draw_person, draw_pose, stranger
from .portraits import Plane
from .reader import attributes_of
from .styles import HELD_OUT, Named, draw_style

SEED = 20_000_000
TUNING_SEED = 30_000_000
DISTRACTORS = 20
# The first that neither picture has is asked for.
EXTRAS = ("hat", "glasses", "smile")


@dataclass(frozen=True)
class HeldOutPair:
    """A face, a style, and what is true of both.

    person, pose: of the face photo. sitter: who is on the style image. face, style:
    ``(side, side, 3)`` in [0, 1]. strangers: others of the person's gender. extra: the attribute to
    prompt for. spliced: the photo with everything below the row ``seam`` from the first stranger's.
    What is painted, the answers, is painted when it is first asked for.
    """

    number: int
    name: str
    person: Person
    pose: Pose
    sitter: Person
    named: Named
    face: Plane
    style: Plane
    strangers: tuple[Person, ...]
    extra: str
    spliced: Plane
    seam: int

    def stylize(self, who: Person) -> Plane:
        """Return someone in the style, in the photo's pose."""
        return paint(who, self.pose, self.named.style, self.number, len(self.face)).color

    @cached_property
    def truth(self) -> Plane:
        """The true answer."""
        return self.stylize(self.person)

    @cached_property
    def sitter_truth(self) -> Plane:
        """What it would be if the style image's person were taken over."""
        return self.stylize(self.sitter)

    @cached_property
    def distractors(self) -> tuple[Plane, ...]:
        """The strangers likewise."""
        return tuple(map(self.stylize, self.strangers))


@cache
def make_pair(number: int, side: int = 64) -> HeldOutPair:
    """Return one of the pairs; it is drawn once in a process, so leave its arrays as they are."""
    name = list(HELD_OUT)[number % len(HELD_OUT)]
    return _pair(number, name, HELD_OUT[name], np.random.default_rng((SEED, number)), side)


@cache
def make_tuning_pair(number: int, side: int = 64) -> HeldOutPair:
    """Return a pair to choose settings on: other people, and a style drawn at random."""
    random = np.random.default_rng((TUNING_SEED, number))
    named = draw_style(random)
    return _pair(number, f"random {named.style.texture}", named, random, side)


def _pair(
    number: int, style_name: str, named: Named, random: np.random.Generator, side: int
) -> HeldOutPair:
    person, pose = draw_person(random), draw_pose(random)
    sitter, sitter_pose = _sitter(person, random), draw_pose(random)
    if all(getattr(person, extra) or getattr(sitter, extra) for extra in EXTRAS):
        person, sitter = replace(person, hat=False), replace(sitter, hat=False)
    free = [e for e in EXTRAS if not getattr(person, e) and not getattr(sitter, e)]

    photo = photograph(person, pose, number, side)
    strangers = tuple(stranger(person, random) for _ in range(DISTRACTORS))
    seam = round(side * photo.landmarks["nose"][1]) - side // 16
    spliced = photo.color.copy()
    spliced[seam:] = photograph(strangers[0], pose, number, side).color[seam:]

    return HeldOutPair(
        number=number,
        name=f"{number:02d} {style_name}",
        person=person,
        pose=pose,
        sitter=sitter,
        named=named,
        face=photo.color,
        style=paint(sitter, sitter_pose, named.style, number + SEED, side).color,
        strangers=strangers,
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
