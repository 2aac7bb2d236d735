"""Who is drawn: people of words that a caption can say and of proportions that it cannot."""

from dataclasses import dataclass, replace

import numpy as np

GENDERS = ("woman", "man")
HAIR_COLORS = ("black", "brown", "blond", "red", "gray")
HAIR_LENGTHS = ("short", "long")
PROPORTIONS = (
    "face_width",
    "face_height",
    "jaw",
    "eye_spacing",
    "eye_size",
    "eye_height",
    "brow_tilt",
    "brow_weight",
    "nose_length",
    "nose_width",
    "mouth_width",
    "lip_weight",
    "hair_volume",
    "hairline",
    "skin",
)


@dataclass(frozen=True)
class Person:
    """A face: attributes in words, and proportions in [-1, 1] in the order of PROPORTIONS."""

    gender: str
    hair_color: str
    hair_length: str
    glasses: bool
    beard: bool
    hat: bool
    smile: bool
    proportions: tuple[float, ...]

    def __getitem__(self, proportion: str) -> float:
        return self.proportions[PROPORTIONS.index(proportion)]


@dataclass(frozen=True)
class Pose:
    """How a head is held and lit; everything in fractions of the picture or in radians.

    turn: -1 (to the left) to 1 (to the right).
    """

    turn: float
    roll: float
    x: float
    y: float
    size: float
    light: float
    backdrop: tuple[float, float, float]
    clothes: tuple[float, float, float]


def draw_person(random: np.random.Generator) -> Person:
    """Draw a person at random."""
    gender = GENDERS[random.integers(2)]
    man = gender == "man"
    return Person(
        gender=gender,
        hair_color=HAIR_COLORS[random.integers(len(HAIR_COLORS))],
        hair_length="long" if random.random() < (0.15 if man else 0.75) else "short",
        glasses=bool(random.random() < 0.3),
        beard=bool(man and random.random() < 0.45),
        hat=bool(random.random() < 0.2),
        smile=bool(random.random() < 0.5),
        proportions=tuple(random.uniform(-1, 1, len(PROPORTIONS)).round(3).tolist()),
    )


def draw_pose(random: np.random.Generator) -> Pose:
    """Draw a pose, a light, a backdrop and clothes at random.

    A head is turned to the left, to the right or not at all.
    """
    gray, cloth = random.uniform(0.25, 0.85), random.uniform(0.15, 0.7)
    return Pose(
        turn=float(random.integers(-1, 2) * 0.8),
        roll=float(random.normal(0, 0.009)),
        x=float(random.normal(0, 0.006)),
        y=float(random.normal(0.08, 0.0045)),
        size=float(1.18 + random.uniform(-0.012, 0.012)),
        light=float(random.choice([-1, 1]) * random.uniform(0.3, 1)),
        backdrop=tuple(np.clip(gray + random.normal(0, 0.12, 3), 0.1, 0.95).tolist()),
        clothes=tuple((cloth + random.normal(0, 0.12, 3)).clip(0.05, 0.9).tolist()),
    )


def stranger(person: Person, random: np.random.Generator) -> Person:
    """Return another person of the same gender, for the line-up of the rank figure."""
    other = draw_person(random)
    return replace(other, gender=person.gender, beard=person.gender == "man" and other.beard)
