"""The true answers of a drawing as one row of numbers, for the reader to learn."""

from collections.abc import Sequence

import numpy as np

from .people import GENDERS, HAIR_COLORS, HAIR_LENGTHS, PROPORTIONS, Person

# Each attribute group with its words; a group's label is the number of its word.
GROUPS: dict[str, tuple[str, ...]] = {
    "gender": GENDERS,
    "hair_color": HAIR_COLORS,
    "hair_length": HAIR_LENGTHS,
    "glasses": ("no", "yes"),
    "beard": ("no", "yes"),
    "hat": ("no", "yes"),
    "smile": ("no", "yes"),
    "medium": ("photo", "painting"),
}
LANDMARKS = ("left_eye", "right_eye", "nose", "mouth", "chin")
MEASURES = (*(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"), "turn", *PROPORTIONS)


def attributes_of(person: Person) -> dict[str, int]:
    """Return each attribute group's label, but for the medium."""
    return {
        group: words.index(getattr(person, group))
        if isinstance(getattr(person, group), str)
        else int(getattr(person, group))
        for group, words in GROUPS.items()
        if group != "medium"
    }


def label_rows(
    people: Sequence[Person],
    landmarks: np.ndarray,
    turns: np.ndarray,
    is_painting: Sequence[bool],
) -> np.ndarray:
    """Return ``(n, groups + measures)``: group labels, then measures of about unit size."""
    rows = []
    for person, points, turn, painted in zip(people, landmarks, turns, is_painting, strict=True):
        groups = [*attributes_of(person).values(), int(painted)]
        places = (points.ravel() - 0.5) * 4
        rows.append([*groups, *places, turn, *person.proportions])
    return np.array(rows, np.float32)
