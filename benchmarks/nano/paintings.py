"""A painting by formula: a style turns a portrait's colours, contours and light into paint."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from .people import Person, Pose
from .portraits import Deformation, Plane, Portrait, portray

Texture = Literal["brush", "swirl", "hatch", "dots", "wash", "tiles", "flat", "weave", "engraving"]
Backdrop = Literal["plain", "halo", "stripes", "blocks"]
# The families that a prior is taught; the last two are only ever seen on a style picture.
TEXTURES: tuple[Texture, ...] = get_args(Texture)[:7]
UNTAUGHT: tuple[Texture, ...] = get_args(Texture)[7:]
BACKDROPS: tuple[Backdrop, ...] = get_args(Backdrop)
LUMINANCE = np.array([0.30, 0.59, 0.11], np.float32)

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """How a painter paints.

    palette: colours from dark to light that replace the photo's by luminance. keep: share of the
    photo's own colour, 0 to 1. texture, period, amount, angle: the strokes, their spacing in
    pixels of a 64 px picture, their strength in [0, 1], their direction in radians. levels: steps
    of tone, 0 for smooth. outline: strength of drawn contours, 0 to 1. backdrop: what stands
    behind the person.
    """

    palette: tuple[Color, ...]
    texture: Texture
    keep: float = 0.35
    period: float = 5.0
    amount: float = 0.6
    angle: float = 0.8
    levels: int = 0
    outline: float = 0.0
    outline_color: Color = (0.08, 0.06, 0.07)
    backdrop: Backdrop = "plain"
    deformation: Deformation = field(default_factory=Deformation)

    def stroked(self, picture: Plane, portrait: Portrait, random: np.random.Generator) -> Plane:
        """Return a picture of a portrait ``(s, s, 3)`` in this style's strokes."""
        return _textured(picture, self, random)

    def contours(self, portrait: Portrait) -> Plane:
        """Return how strongly the contours are drawn ``(s, s)``, 0 to 1."""
        return 0.85 * portrait.ink * self.outline


def photograph(person: Person, pose: Pose, seed: int, side: int = 64) -> Portrait:
    """Return the photo of a person, with a sensor's grain."""
    portrait = portray(person, pose, side)
    grain = np.random.default_rng(seed).normal(0, 0.012, (side, side, 3)).astype(np.float32)
    portrait.color = (portrait.color + grain).clip(0, 1)
    return portrait


def paint(person: Person, pose: Pose, style: Style, seed: int, side: int = 64) -> Portrait:
    """Return a person painted in a style: the true answer to a stylization."""
    random = np.random.default_rng(seed)
    portrait = portray(person, pose, side, style.deformation)
    picture = _behind(portrait, style)
    picture = _in_palette(picture, style)
    picture = style.stroked(picture, portrait, random)
    ink = style.contours(portrait)[..., None]
    picture += ink * (np.array(style.outline_color, np.float32) - picture)
    portrait.color = picture.clip(0, 1).astype(np.float32)
    return portrait


def grid(side: int) -> tuple[Plane, Plane]:
    """Return x and y ``(side, side)`` in pixels of a 64 px picture."""
    axis = np.arange(side, dtype=np.float32) * (64 / side)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _behind(portrait: Portrait, style: Style) -> Plane:
    picture, side = portrait.color.copy(), len(portrait.color)
    if style.backdrop == "plain":
        return picture
    x, y = grid(side)
    if style.backdrop == "halo":
        radius = np.hypot(x - 32, y - 27)
        tone = np.where(radius < 26, 0.88, 0.42) - 0.35 * (np.abs(radius - 26) < 1.6)
    elif style.backdrop == "stripes":
        tone = 0.6 + 0.26 * np.sign(np.sin(2 * np.pi * (x * 0.9 + y * 0.2) / 11))
    else:
        tone = 0.35 + 0.5 * ((np.floor(x / 10.7) * 3 + np.floor(y / 10.7) * 5) % 4) / 3
    away = (1 - portrait.figure)[..., None]
    return picture + away * (tone.astype(np.float32)[..., None] - picture)


def _in_palette(picture: Plane, style: Style) -> Plane:
    tone = picture @ LUMINANCE
    tone = ((tone - 0.5) * 1.15 + 0.5).clip(0, 1)
    if style.levels:
        steps = tone * style.levels
        crisp = np.floor(steps) + ((steps % 1 - 0.5) * 4 + 0.5).clip(0, 1)
        tone = (crisp / style.levels).clip(0, 1)
    stops = np.linspace(0, 1, len(style.palette))
    colors = np.array(style.palette, np.float32)
    mapped = np.stack([np.interp(tone, stops, colors[:, c]) for c in range(3)], -1)
    own = picture - (picture @ LUMINANCE)[..., None] + tone[..., None]
    return (mapped + style.keep * (own - mapped)).astype(np.float32)


def _textured(picture: Plane, style: Style, random: np.random.Generator) -> Plane:
    x, y = grid(len(picture))
    amount, period = style.amount, style.period
    cos, sin = np.cos(style.angle), np.sin(style.angle)
    phase = random.uniform(0, 2 * np.pi, 4)
    if style.texture in ("brush", "swirl"):
        if style.texture == "swirl":
            bent_x = x + 7 * np.sin(y / 9 + phase[0]) + 3 * np.sin(x / 6 + phase[1])
            bent_y = y + 7 * np.sin(x / 9 + phase[2]) + 3 * np.sin(y / 6 + phase[3])
            across = np.sin(2 * np.pi * (bent_y * cos - bent_x * sin) / period)
            return (
                picture * (1 + 0.34 * amount * across)[..., None]
                + 0.05 * amount * across[..., None]
            )
        number, first, _, center = cells(x, y, period, random, style.angle, 1.8)
        jitter = random.normal(0, 0.11 * amount, (number.max() + 1, 1)).astype(np.float32)
        dabs = at(picture, center) + jitter[number]
        ridge = (0.10 * amount * np.sin(2 * np.pi * first / (0.5 * period)))[..., None]
        return picture + 0.6 * amount * (dabs + ridge - picture)
    if style.texture == "hatch":
        tone = picture @ LUMINANCE
        wobble = 1.2 * np.sin((x * cos + y * sin) / 7 + phase[0])
        line = np.sin(2 * np.pi * ((y * cos - x * sin) + wobble) / period)
        cross = np.sin(2 * np.pi * ((x * cos + y * sin) + wobble) / period)
        dark = ((0.80 - tone) * 1.6).clip(0, 1)
        strokes = (line > 0.9 - 1.3 * dark) * 0.6 + (cross > 1.25 - 1.3 * dark) * 0.4
        strokes = ndimage.gaussian_filter(strokes.astype(np.float32), 0.45)
        deep = np.array(style.palette[0], np.float32)
        return picture + (0.6 * amount * strokes)[..., None] * (deep - picture)
    if style.texture == "dots":
        number, first, _, center = cells(x, y, period, random, 0.0, 1.0, 0.12)
        jitter = random.normal(0, 0.13 * amount, (number.max() + 1, 3)).astype(np.float32)
        dot = (0.52 * period - first + 0.5).clip(0, 1)[..., None]
        paper = np.array(style.palette[-1], np.float32)
        dabs = 0.35 * at(picture, center) + 0.65 * picture + jitter[number]
        return picture + amount * (dabs * dot + (1 - dot) * (0.3 * paper + 0.7 * picture) - picture)
    if style.texture == "wash":
        blots = ndimage.gaussian_filter(
            random.normal(0, 1, picture.shape[:2]), 0.8 * period * len(picture) / 64
        )
        blots /= blots.std() + 1e-6
        soft = ndimage.gaussian_filter(picture, (1.1, 1.1, 0))
        edge = np.abs(ndimage.laplace(soft @ LUMINANCE))[..., None].clip(0, 0.1)
        paper = ndimage.gaussian_filter(random.normal(0, 1, picture.shape[:2]), 0.6)[..., None]
        wet = soft * (1 + 0.13 * blots.clip(-1.5, 1.5))[..., None] - 2 * edge + 0.05 * paper
        return picture + amount * (wet - picture)
    if style.texture == "tiles":
        number, first, second, center = cells(x, y, period, random, style.angle, 1.0, 0.25)
        jitter = random.normal(0, 0.10 * amount, (number.max() + 1, 1)).astype(np.float32)
        stone = 0.4 * at(picture, center) + 0.6 * picture + jitter[number]
        grout = ((1.3 - (second - first)) / 1.1).clip(0, 1)[..., None]
        stone += 0.55 * grout * (np.array(style.palette[0], np.float32) - stone)
        return picture + amount * (stone - picture)
    return picture


def at(picture: Plane, center: Plane) -> Plane:
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
