"""Strokes that a 64 px picture can show: three pixels wide and more, in every part of it.

Families differ in how long strokes are, which way they run, how far apart they stand, in contours,
tiles and hatching; members of a family differ in the numbers.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .portraits import Plane, Portrait
from .styles import Style

LUMINANCE = np.array([0.30, 0.59, 0.11], np.float32)


def add_strokes(
    picture: Plane, portrait: Portrait, style: Style, random: np.random.Generator
) -> Plane:
    """Return a picture of a portrait ``(s, s, 3)`` in a style's strokes."""
    features = ndimage.gaussian_filter(portrait.ink * portrait.figure, len(picture) / 64)
    detail = (0.15 * portrait.figure + 1.8 * features).clip(0, 0.88)[..., None]
    return _FAMILIES[style.texture](_Canvas(picture, detail, style, random))


def contours(portrait: Portrait, style: Style) -> Plane:
    """Return how strongly the contours are drawn ``(s, s)``, 0 to 1."""
    spread = (style.contour - 1) * len(portrait.ink) / 64
    wide = ndimage.grey_dilation(portrait.ink, 3) if spread > 0 else portrait.ink
    ink = portrait.ink + (spread / 2) * (wide - portrait.ink)
    return (0.95 * ink * style.outline).astype(np.float32)


def grid(side: int) -> tuple[Plane, Plane]:
    """Return x and y ``(side, side)`` in pixels of a 64 px picture."""
    axis = np.arange(side, dtype=np.float32) * (64 / side)
    x, y = np.meshgrid(axis, axis)
    return x, y


def rotate(x: Plane, y: Plane, angle: float) -> tuple[Plane, Plane]:
    """Return how far points lie along a direction, and across it."""
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos + y * sin, y * cos - x * sin


def color_at(picture: Plane, center: Plane) -> Plane:
    """Return a picture's colour at each pixel's cell centre, in pixels of a 64 px picture."""
    side = len(picture)
    place = (center * (side / 64)).round().astype(int).clip(0, side - 1)
    return picture[place[..., 1], place[..., 0]]


def cells(
    x: Plane,
    y: Plane,
    period: float,
    random: np.random.Generator,
    angle: float,
    stretch: float,
    jitter: float = 0.35,
) -> tuple[np.ndarray, Plane, Plane, Plane]:
    """Return each pixel's cell number, distances to the two nearest centres, and its centre.

    The cells are a jittered grid, ``period`` apart across and ``stretch`` times that along.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    along, across = (x * cos + y * sin) / (period * stretch), (y * cos - x * sin) / period
    count = int(96 / period) + 4
    offsets = random.uniform(-jitter, jitter, (2 * count, 2 * count, 2)).astype(np.float32)
    base_u, base_v = np.floor(along).astype(int), np.floor(across).astype(int)
    first = np.full(x.shape, 1e9, np.float32)
    second, number = first.copy(), np.zeros(x.shape, int)
    center = np.zeros((*x.shape, 2), np.float32)
    for du in (-1, 0, 1):
        for dv in (-1, 0, 1):
            u, v = base_u + du, base_v + dv
            shift = offsets[u + count, v + count]
            at_u, at_v = u + 0.5 + shift[..., 0], v + 0.5 + shift[..., 1]
            far = period * np.hypot(along - at_u, across - at_v)
            nearer = far < first
            second = np.where(nearer, first, np.minimum(second, far))
            first = np.where(nearer, far, first)
            number = np.where(nearer, (u + count) * 2 * count + v + count, number)
            a, c = at_u * period * stretch, at_v * period
            place = np.stack([a * cos - c * sin, a * sin + c * cos], -1)
            center = np.where(nearer[..., None], place, center)
    return number, first, second, center


class _Canvas(NamedTuple):
    """picture ``(s, s, 3)``; detail ``(s, s, 1)``: 0 where strokes are coarse, 0.88 on features."""

    picture: Plane
    detail: Plane
    style: Style
    random: np.random.Generator

    def tone(self) -> Plane:
        return self.picture @ LUMINANCE

    def color(self, index: int) -> Plane:
        return np.array(self.style.palette[index], np.float32)

    def bend_grid(self) -> tuple[Plane, Plane]:
        """Return x and y in pixels, shifted to and fro so that straight strokes wander."""
        x, y = grid(len(self.picture))
        phase, bend = self.random.uniform(0, 2 * np.pi, 4), self.style.bend
        return (
            x + bend * np.sin(y / 9 + phase[0]) + 0.4 * bend * np.sin(x / 6 + phase[1]),
            y + bend * np.sin(x / 9 + phase[2]) + 0.4 * bend * np.sin(y / 6 + phase[3]),
        )

    def lay_strokes(
        self, number: Plane, center: Plane, deviation: float, channels: int = 1
    ) -> Plane:
        """Return each stroke in one colour, that of its centre, more or less; features stay."""
        spread = self.random.normal(0, deviation * self.style.amount, (number.max() + 1, channels))
        dabs = color_at(self.picture, center) + spread.astype(np.float32)[number]
        keep = self.detail + (1 - self.style.amount) * 0.4 * (1 - self.detail)
        return dabs + keep * (self.picture - dabs)

    def cover(self, painted: Plane, least: float, more: float, spared: float) -> Plane:
        """Return the image painted over, the more the stronger the style and less on features."""
        strength = (least + more * self.style.amount) * (1 - spared * self.detail)
        return self.picture + strength * (painted - self.picture)


def _brush(canvas: _Canvas) -> Plane:
    """Straight dabs in one direction, each with a lit and a shaded side."""
    style, (x, y) = canvas.style, canvas.bend_grid()
    number, first, second, center = cells(
        x, y, style.period, canvas.random, style.angle, style.length
    )
    across = (y - center[..., 1]) * np.cos(style.angle) - (x - center[..., 0]) * np.sin(style.angle)
    relief = (across / (0.5 * style.period)).clip(-1, 1)
    edge = (1 - (second - first) / 1.6).clip(0, 1)
    light = 0.15 * relief - 0.16 * edge
    shade = (style.amount * light)[..., None] * (1 - 0.6 * canvas.detail)
    return canvas.lay_strokes(number, center, 0.10) + shade


def _swirl(canvas: _Canvas) -> Plane:
    """Long curved strokes, light beside dark."""
    style, (x, y) = canvas.style, canvas.bend_grid()
    along, across = rotate(x, y, style.angle)
    across = across / style.period
    stripe = np.floor(across).astype(int)
    starts = canvas.random.uniform(0, 2 * np.pi, 4096)[stripe % 4096]
    dash = np.sin(2 * np.pi * along / (style.length * style.period) + starts)
    wave = np.sin(2 * np.pi * across) * (0.8 + 0.2 * dash) + 0.35 * dash
    strength = (style.amount * wave)[..., None] * (1 - 0.5 * canvas.detail)
    return canvas.picture * (1 + 0.42 * strength) + 0.10 * strength


def _hatch(canvas: _Canvas) -> Plane:
    """Lines on paper, the closer and the more crossed the darker."""
    style, (x, y) = canvas.style, canvas.bend_grid()
    along, across = rotate(x, y, style.angle)
    line = np.sin(2 * np.pi * across / style.period)
    cross = np.sin(2 * np.pi * along / style.period)
    dark = ((0.95 - canvas.tone()) * 1.2).clip(0, 1)
    ink = 2.0 * (line - 0.95 + 1.5 * dark).clip(0, 0.5)
    ink = np.maximum(ink, 1.6 * (cross - 1.45 + 1.5 * dark).clip(0, 0.5))
    ground = canvas.picture + 0.5 * (canvas.color(-1) - canvas.picture)
    pen = 0.55 * canvas.color(0) + 0.3 * canvas.picture
    strokes = ground + ink[..., None] * (pen - ground)
    return canvas.cover(strokes, 0.35, 0.65, 0.6)


def _dots(canvas: _Canvas) -> Plane:
    """Round dots of mixed colours on a ground that stands out from them."""
    style, (x, y) = canvas.style, canvas.bend_grid()
    number, first, _, center = cells(x, y, style.period, canvas.random, style.angle, 1.0, 0.12)
    dot = (0.45 * style.period - first + 0.5).clip(0, 1)[..., None]
    around = ndimage.gaussian_filter(canvas.tone(), 8 * len(x) / 64)[..., None] > 0.5
    ground = canvas.picture + 0.42 * (
        np.where(around, canvas.color(0), canvas.color(-1)) - canvas.picture
    )
    dabs = canvas.lay_strokes(number, center, 0.13, 3)
    painted = ground + dot * (dabs - ground)
    return canvas.cover(painted, 0.4, 0.6, 0.6)


def _wash(canvas: _Canvas) -> Plane:
    """Soft pools of paint that dry with a dark rim, white paper between them."""
    style, scale = canvas.style, len(canvas.picture) / 64
    x, y = canvas.bend_grid()
    number, first, second, _ = cells(
        x, y, 2.6 * style.period, canvas.random, style.angle, style.length
    )
    soft = ndimage.gaussian_filter(canvas.picture, (1.6 * scale, 1.6 * scale, 0))
    depth = canvas.random.normal(0, 0.16, number.max() + 1).astype(np.float32)[number]
    gap = second - first
    rim = np.exp(-(((gap - 3.2) / 1.5) ** 2))
    paper = (1 - gap / 2.4).clip(0, 1)
    wet = soft + (0.22 * (canvas.color(-1) - soft) + (depth - 0.20 * rim)[..., None])
    wet = wet + (0.4 * paper)[..., None] * (canvas.color(-1) - wet)
    return canvas.cover(wet, 0.35, 0.65, 0.8)


def _tiles(canvas: _Canvas) -> Plane:
    """Stones of one colour each, in dark grout."""
    style, (x, y) = canvas.style, canvas.bend_grid()
    number, first, second, center = cells(
        x, y, style.period, canvas.random, style.angle, style.length, 0.25
    )
    stone = canvas.lay_strokes(number, center, 0.11)
    grout = (0.8 * style.amount * ((1.9 - (second - first)) / 1.4).clip(0, 1))[..., None]
    grout = grout * (1 - 0.5 * canvas.detail)
    return stone + grout * (canvas.color(0) - stone)


def _flat(canvas: _Canvas) -> Plane:
    """No strokes: even areas; steps of tone and contours are the style's own."""
    return canvas.picture


def _weave(canvas: _Canvas) -> Plane:
    """Threads that go over and under each other."""
    style, (x, y) = canvas.style, canvas.bend_grid()
    u, v = (one / style.period for one in rotate(x, y, style.angle))
    over = (np.floor(u) + np.floor(v)) % 2 == 0
    thread = np.where(over, np.sin(np.pi * (u % 1)), np.sin(np.pi * (v % 1)))
    shade = (0.45 * style.amount * (thread - 0.64))[..., None] * (1 - 0.4 * canvas.detail)
    return canvas.picture + shade + 0.10 * style.amount * np.where(over, 1, -1)[..., None]


def _engraving(canvas: _Canvas) -> Plane:
    """Lines that follow the forms, swelling where it is dark."""
    style, (x, y) = canvas.style, canvas.bend_grid()
    form = ndimage.gaussian_filter(canvas.tone(), 2.0 * len(x) / 64)
    radius = np.hypot(x - 32, style.length * (y - 30)) / style.period
    line = np.sin(2 * np.pi * (radius + 2.2 * form))
    dark = (0.95 - canvas.tone()).clip(0, 1)
    ink = (1.6 * (line - 0.75 + 1.3 * dark)).clip(0, 1)[..., None]
    ground = canvas.picture + 0.45 * (canvas.color(-1) - canvas.picture)
    strokes = ground + ink * (0.8 * canvas.color(0) + 0.2 * canvas.picture - ground)
    return canvas.cover(strokes, 0.35, 0.65, 0.5)


_FAMILIES = {
    "brush": _brush,
    "swirl": _swirl,
    "hatch": _hatch,
    "dots": _dots,
    "wash": _wash,
    "tiles": _tiles,
    "flat": _flat,
    "weave": _weave,
    "engraving": _engraving,
}
