"""A portrait by formula: signed distances filled back to front, on a canvas of any side."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .people import Person, Pose

Plane = NDArray[np.float32]

HAIR = {
    "black": (0.09, 0.08, 0.08),
    "brown": (0.36, 0.22, 0.12),
    "blond": (0.88, 0.72, 0.36),
    "red": (0.74, 0.27, 0.09),
    "gray": (0.68, 0.68, 0.70),
}
LIGHT_SKIN, DARK_SKIN = np.array([0.96, 0.80, 0.70]), np.array([0.55, 0.36, 0.25])


@dataclass(frozen=True)
class Deformation:
    """How a style bends a face: factors of its height, eyes and width, 1 leaves it be."""

    height: float = 1.0
    eyes: float = 1.0
    width: float = 1.0


@dataclass
class Portrait:
    """What a painter works from.

    color: ``(s, s, 3)`` in [0, 1]. ink: ``(s, s)`` in [0, 1], the visible contours. figure:
    ``(s, s)``, 1 on the person. landmarks: name to (x, y) in [0, 1] of the picture.
    """

    color: Plane
    ink: Plane
    figure: Plane
    landmarks: dict[str, tuple[float, float]] = field(default_factory=dict)


def portray(
    person: Person, pose: Pose, side: int = 64, deformation: Deformation | None = None
) -> Portrait:
    """Draw a person as a photo-like portrait ``(side, side)``."""
    sketch = _Sketch(person, pose, side, deformation or Deformation())
    # Back to front.
    sketch.backdrop()
    sketch.long_hair()
    sketch.shoulders()
    sketch.neck()
    sketch.head()
    sketch.eyes()
    sketch.nose()
    sketch.beard()
    sketch.mouth()
    sketch.hair()
    sketch.hat()
    sketch.glasses()
    return Portrait(
        sketch.color.clip(0, 1), sketch.ink.clip(0, 1), sketch.figure, sketch.landmarks()
    )


class _Sketch:
    """One portrait in the making; parts are drawn in the order of ``portray``."""

    def __init__(self, person: Person, pose: Pose, side: int, bent: Deformation) -> None:
        self.person, self.pose, self.pixel = person, pose, 2 / side
        grid = ((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1).astype(np.float32)
        self.page_x, self.page_y = np.meshgrid(grid, grid)
        self.color = np.zeros((side, side, 3), np.float32)
        self.ink = np.zeros((side, side), np.float32)
        self.figure = np.zeros((side, side), np.float32)
        cos, sin = np.cos(pose.roll), np.sin(pose.roll)
        x, y = (self.page_x - pose.x) / pose.size, (self.page_y - pose.y) / pose.size
        self.x, self.y = cos * x + sin * y, cos * y - sin * x
        man = person.gender == "man"
        self.a = 0.40 * (1 + 0.11 * person["face_width"]) * bent.width * (1.05 if man else 0.97)
        self.b = 0.52 * (1 + 0.09 * person["face_height"]) * bent.height
        self.jaw = 2.3 + 0.45 * person["jaw"] + (0.35 if man else -0.2)
        self.turn = 0.11 * pose.turn
        self.eye_y = -0.08 + 0.05 * person["eye_height"]
        self.eye_x = self.a * (0.44 + 0.06 * person["eye_spacing"])
        self.eye = (0.098 + 0.022 * person["eye_size"]) * bent.eyes
        self.nose_y = self.eye_y + 0.24 * bent.height + 0.055 * person["nose_length"]
        self.mouth_y = max(self.nose_y + 0.15, 0.56 * self.b)
        tone = 0.5 + 0.5 * person["skin"]
        self.skin = (LIGHT_SKIN * (1 - tone) + DARK_SKIN * tone).astype(np.float32)
        self.hair_tone = np.array(HAIR[person.hair_color], np.float32)
        self.hair_noise = self._strands()

    def fill(self, distance: Plane, color: object, line: float = 1.0, opacity: float = 1.0) -> None:
        """Cover where the distance is negative; its border becomes a contour."""
        alpha = (0.5 - distance / self.pixel).clip(0, 1).astype(np.float32) * opacity
        color = np.asarray(color, np.float32)
        self.color += alpha[..., None] * (color - self.color)
        contour = np.exp(-((distance / (0.8 * self.pixel)) ** 2)) * line
        self.ink = np.maximum(self.ink * (1 - alpha), contour)
        self.figure = np.maximum(self.figure, alpha)

    def shade(self, color: object, strength: float = 0.45) -> Plane:
        """Return a colour under the pose's light, from the side and from above."""
        light = self.pose.light * self.x / max(self.a, 0.3) - 0.35 * self.y
        return np.asarray(color, np.float32) * (1 + strength * light.clip(-1, 1) * 0.55)[..., None]

    def _strands(self) -> Plane:
        wave = np.sin(
            34 * self.x + 9 * np.sin(2.3 * self.y + 3 * self.x) + 5 * self.person["hairline"]
        )
        gloss = np.exp(-(((self.y + 0.45 - 0.1 * self.pose.light * self.x) / 0.13) ** 2))
        return (1 + 0.20 * wave + 0.45 * gloss).astype(np.float32)

    def backdrop(self) -> None:
        glow = 1 + 0.25 * self.pose.light * self.page_x - 0.18 * (self.page_x**2 + self.page_y**2)
        self.color[:] = np.asarray(self.pose.backdrop, np.float32) * glow[..., None]

    def hair_color(self) -> Plane:
        return self.shade(self.hair_tone, 0.35) * self.hair_noise[..., None] + 0.02

    def long_hair(self) -> None:
        if self.person.hair_length == "short":
            return
        width = self.a * (1.32 + 0.12 * self.person["hair_volume"])
        top = _ellipse(self.x, self.y + 0.12, width, self.b * 1.02)
        fall = _box(self.x, self.y - 0.28, width * (0.94 + 0.05 * np.sin(5 * self.y)), 0.46)
        self.fill(np.minimum(top, fall), self.hair_color() * 0.8)

    def shoulders(self) -> None:
        y = self.page_y - self.pose.y - 1.22 + 0.2 * (1 - self.b / 0.52)
        width = 0.86 if self.person.gender == "man" else 0.74
        body = _ellipse(self.page_x - self.pose.x, y, width, 0.52, 2.6)
        self.fill(body, self.shade(self.pose.clothes))

    def neck(self) -> None:
        width = 0.19 if self.person.gender == "man" else 0.15
        shadow = 0.72 + 0.2 * (self.y - self.b).clip(0, 1)
        neck = _box(self.x - 0.3 * self.turn, self.y - 0.62, width, 0.30)
        self.fill(neck, self.shade(self.skin) * shadow[..., None], line=0.5)

    def head(self) -> None:
        for side in (-1, 1):
            ear = _ellipse(
                self.x - side * self.a * 0.98 + self.turn * 0.5, self.y - 0.02, 0.06, 0.11
            )
            self.fill(ear, self.shade(self.skin * 0.93))
        face = self._face()
        rim = (1 + face / (0.5 * self.a)).clip(0, 1) ** 3
        tone = self.shade(self.skin) * (1 - 0.28 * rim)[..., None]
        for side in (-1, 1):
            cheek = np.exp(
                -_ellipse_level(self.x - self.turn - side * 0.5 * self.a, self.y - 0.15, 0.13, 0.1)
            )
            tone = tone + (0.07 * cheek)[..., None] * np.array([1, -0.2, -0.1], np.float32)
        self.fill(face, tone)

    def _face(self) -> Plane:
        power = np.where(self.y > 0, self.jaw, 2.1)
        return _ellipse(self.x, self.y, self.a * (1 - 0.10 * self.y.clip(0, 1)), self.b, power)

    def _eye_centre(self, side: int) -> tuple[float, float]:
        return side * self.eye_x + self.turn, self.eye_y

    def eyes(self) -> None:
        for side in (-1, 1):
            cx, cy = self._eye_centre(side)
            x, y, r = self.x - cx, self.y - cy, self.eye
            socket = np.exp(-_ellipse_level(x, y + 0.02, 1.7 * r, 1.2 * r))
            self.color *= (1 - 0.22 * socket)[..., None]
            white = np.maximum(_ellipse(x, y + 0.35 * r, r, r), _ellipse(x, y - 0.35 * r, r, r))
            self.fill(white, (0.97, 0.96, 0.94))
            look = x - 0.22 * r * self.pose.turn
            iris = np.maximum(_ellipse(look, y, 0.55 * r, 0.58 * r), white)
            self.fill(iris, (0.24, 0.16, 0.10), line=0.0)
            self.fill(
                _ellipse(look + 0.15 * r, y + 0.2 * r, 0.14 * r, 0.14 * r), (1, 1, 1), line=0.0
            )
            lid = np.abs(y + 0.62 * r - 0.55 * x**2 / r) - 0.016
            lash = 0.026 if self.person.gender == "woman" else 0.014
            self.fill(np.maximum(lid - lash + 0.014, np.abs(x) - 1.02 * r), (0.12, 0.08, 0.07), 0.6)
            weight = 0.022 + 0.010 * self.person["brow_weight"]
            weight += 0.008 if self.person.gender == "man" else -0.004
            tilt = 0.25 * self.person["brow_tilt"] * side
            brow = np.abs(y + 0.165 + 0.35 * self.eye - tilt * x + 1.2 * x**2) - weight
            self.fill(np.maximum(brow, np.abs(x) - 1.25 * self.eye), self.hair_tone * 0.7, 0.6)

    def nose(self) -> None:
        x, tip = self.x - 1.5 * self.turn, self.nose_y
        width = 0.066 + 0.02 * self.person["nose_width"]
        lean = np.sign(self.pose.light)
        bridge = np.exp(-(((x + lean * 0.05) / 0.035) ** 2))
        along = ((self.y - self.eye_y) / (tip - self.eye_y)).clip(0, 1) * (self.y < tip)
        self.color *= (1 - 0.26 * bridge * along)[..., None]
        shine = np.exp(-_ellipse_level(x - lean * 0.01, self.y - tip + 0.03, 0.035, 0.06))
        self.color += (0.10 * shine)[..., None]
        under = np.abs(self.y - tip - 0.02 + 3.2 * x**2) - 0.014
        self.fill(np.maximum(under, np.abs(x) - width), self.skin * 0.52, line=0.5)

    def mouth(self) -> None:
        x, y = self.x - 1.1 * self.turn, self.y - self.mouth_y
        width = 0.16 + 0.035 * self.person["mouth_width"]
        bow = 3.2 if self.person.smile else -0.25
        curve = y + bow * (x**2 - 0.35 * width**2)
        full = 0.034 + 0.012 * self.person["lip_weight"]
        full *= 1.2 if self.person.gender == "woman" else 0.85
        fade = np.sqrt((1 - (x / width) ** 2).clip(0, 1))
        lips = np.where(np.abs(x) < width, np.abs(curve) - full * fade, np.abs(x) - width + 0.02)
        red = (0.74, 0.24, 0.25) if self.person.gender == "woman" else self.skin * [0.82, 0.62, 0.6]
        self.fill(lips, red, line=0.5)
        gap = np.where(np.abs(x) < width, np.abs(curve) - 0.012, np.abs(x) - width + 0.02)
        self.fill(gap, (0.28, 0.09, 0.09), line=0.6)
        if self.person.smile:
            teeth = np.where(np.abs(x) < 0.72 * width, np.abs(curve) - 0.022 * fade, 1)
            self.fill(teeth, (0.97, 0.96, 0.93), line=0.0)

    def beard(self) -> None:
        if not self.person.beard:
            return
        face = self._face()
        x, y = self.x - 1.1 * self.turn, self.y - self.mouth_y
        below = -0.10 - 0.35 * np.abs(x) - y
        beard = np.maximum(face - 0.025, below)
        self.fill(beard, self.hair_color() * 0.9, line=0.7)

    def hair(self) -> None:
        person, face = self.person, self._face()
        grow = 0.055 + 0.03 * person["hair_volume"]
        cap = _ellipse(self.x, self.y + 0.06, self.a * 1.0 + grow + 0.03, self.b + grow)
        line = -0.28 - 0.05 * person["hairline"]
        part = self.x - 0.35 * self.a * np.sign(person["hairline"] + 1e-3)
        arch = line - 0.22 * np.sqrt((1 - (self.x / (1.25 * self.a)) ** 2).clip(0, 1))
        fringe = self.y - arch - 0.14 + 0.25 * np.abs(part)
        front = np.maximum(cap, fringe)
        sides = np.maximum(
            np.maximum(cap, -(face + 0.035)),
            self.y - (0.08 if person.hair_length == "short" else 0.55),
        )
        self.fill(np.minimum(front, sides), self.hair_color())

    def hat(self) -> None:
        if not self.person.hat:
            return
        felt = np.asarray(self.pose.clothes, np.float32) * 0.75 + 0.05
        crown = np.maximum(_ellipse(self.x, self.y + 0.5, self.a * 1.12, 0.42, 2.8), self.y + 0.36)
        self.fill(crown, self.shade(felt))
        brim = _ellipse(self.x, self.y + 0.38 - 0.12 * self.x**2, self.a * 1.62, 0.075)
        self.fill(brim, self.shade(felt * 0.8))

    def glasses(self) -> None:
        if not self.person.glasses:
            return
        frame = (0.06, 0.05, 0.06)
        rx, ry = min(0.155, self.eye_x * 0.86), 0.125
        for side in (-1, 1):
            cx, cy = self._eye_centre(side)
            lens = _ellipse(self.x - cx, self.y - cy - 0.01, rx, ry, 2.6)
            self.fill(lens, (0.85, 0.92, 0.97), line=0.0, opacity=0.18)
            self.fill(np.abs(lens) - 0.020, frame, line=0.8)
            arm = np.maximum(
                np.abs(self.y - cy + 0.03) - 0.016, side * (self.x - cx) - self.a * 0.62
            )
            self.fill(np.maximum(arm, rx - side * (self.x - cx)), frame, line=0.8)
        bridge = np.maximum(
            np.abs(self.y - self.eye_y + 0.02) - 0.016, np.abs(self.x - self.turn) - self.eye_x + rx
        )
        self.fill(bridge, frame, line=0.8)

    def landmarks(self) -> dict[str, tuple[float, float]]:
        points = {
            "left_eye": self._eye_centre(-1),
            "right_eye": self._eye_centre(1),
            "nose": (1.5 * self.turn, self.nose_y),
            "mouth": (1.1 * self.turn, self.mouth_y),
            "chin": (0.0, self.b),
        }
        cos, sin, pose = np.cos(self.pose.roll), np.sin(self.pose.roll), self.pose
        placed = {}
        for name, (x, y) in points.items():
            across = (cos * x - sin * y) * pose.size + pose.x
            down = (sin * x + cos * y) * pose.size + pose.y
            placed[name] = float((across + 1) / 2), float((down + 1) / 2)
        return placed


def _ellipse_level(x: Plane, y: Plane, a: float | Plane, b: float) -> Plane:
    return (x / a) ** 2 + (y / b) ** 2


def _ellipse(x: Plane, y: Plane, a: float | Plane, b: float, power: float | Plane = 2.0) -> Plane:
    """Return the distance to a superellipse's rim, scaled by its shorter half axis."""
    level = (np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1 / power)
    return (level - 1) * np.minimum(a, b)


def _box(x: Plane, y: Plane, a: float | Plane, b: float) -> Plane:
    return np.maximum(np.abs(x) - a, np.abs(y) - b)
