"""What a style is, its words, the styles held out, and those to train on, drawn at random."""

import colorsys
from collections import ChainMap
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from .portraits import Deformation

Texture = Literal["brush", "swirl", "hatch", "dots", "wash", "tiles", "flat", "weave", "engraving"]
Backdrop = Literal["plain", "halo", "stripes", "blocks"]
# The families that a prior is taught; the last two are only ever seen on a style picture.
TEXTURES: tuple[Texture, ...] = get_args(Texture)[:7]
UNTAUGHT: tuple[Texture, ...] = get_args(Texture)[7:]
BACKDROPS: tuple[Backdrop, ...] = get_args(Backdrop)
Color = tuple[float, float, float]

# Of each family: least and greatest spacing in pixels, length in widths, and bend in pixels.
RANGES: dict[Texture, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "brush": ((3.6, 6.5), (2.0, 4.5), (0, 2.5)),
    "swirl": ((5.0, 9.0), (2.5, 6.0), (4, 8)),
    "hatch": ((4.5, 7.5), (1, 1), (0, 1.5)),
    "dots": ((4.5, 7.5), (1, 1), (0, 2)),
    "wash": ((5.0, 8.0), (1.0, 1.8), (2, 4)),
    "tiles": ((5.5, 9.5), (1.0, 1.6), (0, 3)),
    "flat": ((5, 5), (1, 1), (0, 0)),
    "weave": ((4.5, 7.0), (1, 1), (0, 1)),
    "engraving": ((4.5, 6.5), (0.8, 1.4), (0, 1)),
}
FINE_OR_BOLD = ("fine", "bold")
ANY_PAINTING = "a painting"
WORDS: dict[Texture, str] = {
    "brush": "an oil painting",
    "swirl": "an impressionist painting",
    "hatch": "a sketch",
    "dots": "a pointillist painting",
    "wash": "a watercolor",
    "tiles": "a mosaic",
    "flat": "a poster",
}
HUES = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")


@dataclass(frozen=True)
class Style:
    """How a painter paints.

    palette: colours from dark to light that replace the photo's by luminance. keep: share of the
    photo's own colour, 0 to 1. texture, period, amount, angle: the strokes, their spacing in
    pixels of a 64 px picture, their strength in [0, 1], their direction in radians. length: of a
    stroke, in its widths. bend: how far the direction of strokes wanders, in pixels. levels: steps
    of tone, 0 for smooth. outline: strength of drawn contours, 0 to 1. contour: 1 for thin contours
    to 3 for wide ones. backdrop: what stands behind the person.
    """

    palette: tuple[Color, ...]
    texture: Texture
    keep: float = 0.35
    period: float = 5.0
    amount: float = 0.6
    angle: float = 0.8
    length: float = 2.5
    bend: float = 0.0
    levels: int = 0
    outline: float = 0.0
    outline_color: Color = (0.08, 0.06, 0.07)
    contour: float = 1.0
    backdrop: Backdrop = "plain"
    deformation: Deformation = field(default_factory=Deformation)


@dataclass(frozen=True)
class Named:
    """A style with the words that a caption has for it: its family, its colours, its strokes."""

    style: Style
    words: str
    tones: str
    strokes: str = ""


def stroke_words(style: Style) -> str:
    """Return what a caption says of strokes: ``with bold strokes and outlines``."""
    (near, far), _, _ = RANGES[style.texture]
    said = []
    if far > near:
        said.append(f"{FINE_OR_BOLD[int(style.period > (near + far) / 2)]} strokes")
    if style.outline:
        said.append("outlines")
    return f"with {' and '.join(said)}" if said else ""


def _style(words: tuple[str, Texture, str], *fields: dict[str, Any]) -> Named:
    """Return a style of a tone and a family; its palette is hex colours, from dark to light."""
    tones, texture, palette = words
    colors = tuple(tuple(byte / 255 for byte in bytes.fromhex(c)) for c in palette.split())
    style = Style(colors, texture, **dict(ChainMap(*fields)))
    return Named(style, WORDS.get(texture, ANY_PAINTING), tones, stroke_words(style))


HELD_OUT = {
    "gold tiles": _style(
        ("yellow", "tiles", "2a1a08 a0660c e0a81c fff0b0"),
        {"period": 7.0, "amount": 0.95, "angle": 0.5, "length": 1.2},
        {"keep": 0.25, "outline": 0.7, "backdrop": "halo"},
    ),
    "blue swirls": _style(
        ("blue", "swirl", "08123c 1f4fa0 5aa0d8 f4e890"),
        {"period": 7.0, "amount": 1.0, "angle": 0.6, "length": 4.5, "bend": 6.5},
        {"keep": 0.25, "outline": 0.6},
    ),
    "red woodcut": _style(
        ("red", "hatch", "1a0606 8a1410 e84a2c fbe8c8"),
        {"period": 6.5, "amount": 1.0, "keep": 0.12, "levels": 4, "outline": 0.9, "contour": 1.8},
    ),
    "candy dots": _style(
        ("pink", "dots", "401058 d0208c f8a0c0 fffad0"),
        {"period": 6.0, "amount": 0.95, "keep": 0.25, "outline": 0.8, "contour": 1.5},
        {"outline_color": (0.15, 0.0, 0.25), "backdrop": "blocks"},
    ),
    "long green": _style(
        ("green", "brush", "0c2418 2c7048 8cc060 f0f4b8"),
        {"period": 4.5, "amount": 0.95, "angle": 1.2, "length": 4.0, "bend": 1.0},
        {"keep": 0.3, "outline": 0.6, "deformation": Deformation(height=1.12, eyes=0.9, width=0.9)},
    ),
    "violet wash": _style(
        ("purple", "wash", "241848 6848a8 b8a0e0 fbf4ff"),
        {"period": 6.5, "amount": 0.95, "length": 1.3, "bend": 3.0},
        {"keep": 0.2, "outline": 0.6, "outline_color": (0.2, 0.1, 0.35)},
    ),
    "teal poster": _style(
        ("teal", "flat", "041c24 0c6c74 3cc4b4 fdf2d8"),
        {"keep": 0.15, "levels": 4, "outline": 1.0, "contour": 2.2, "backdrop": "stripes"},
        {"deformation": Deformation(eyes=1.25)},
    ),
    "pencil": _style(
        ("gray", "hatch", "181818 686868 c0c0bc fafaf6"),
        {"period": 5.0, "amount": 0.9, "angle": 2.2, "keep": 0.08, "outline": 0.9},
    ),
    "sunset brush": _style(
        ("orange", "brush", "3c0c28 b83c30 f8903c fff0a8"),
        {"period": 6.0, "amount": 0.95, "angle": 2.4, "length": 2.5},
        {"keep": 0.3, "levels": 5, "outline": 0.6, "backdrop": "halo"},
    ),
    "ocean tiles": _style(
        ("blue", "tiles", "061428 14507c 48a8c8 e8fbf4"),
        {"period": 8.5, "amount": 0.9, "angle": 1.0, "bend": 2.5},
        {"keep": 0.2, "outline": 0.8, "contour": 1.6, "backdrop": "stripes"},
    ),
    "orange weave": _style(
        ("orange", "weave", "3c0c28 b83c30 f8903c fff0a8"),
        {"period": 5.5, "amount": 1.0, "angle": 0.6, "keep": 0.25, "outline": 0.8, "contour": 1.5},
    ),
    "teal engraving": _style(
        ("teal", "engraving", "041c24 0c6c74 3cc4b4 fdf2d8"),
        {"period": 6.0, "amount": 1.0, "length": 1.1, "keep": 0.2, "outline": 0.9, "contour": 1.6},
    ),
}


def draw_style(random: np.random.Generator, textures: tuple[Texture, ...] = TEXTURES) -> Named:
    """Draw a style of some families at random; none is a held-out one."""
    while True:
        hue = int(random.integers(len(HUES)))
        dull = random.random() < 0.25
        family = textures[random.integers(len(textures))]
        (near, far), length, bend = RANGES[family]
        flat = family == "flat"
        style = Style(
            palette=draw_palette(random, hue / len(HUES) + random.normal(0, 0.02), dull),
            texture=family,
            keep=float(random.uniform(0.25, 0.6)),
            period=float(random.uniform(near, far)),
            amount=float(random.uniform(0.65, 1.0)),
            angle=float(random.uniform(0, np.pi)),
            levels=int(random.integers(3, 6)) if flat or random.random() < 0.25 else 0,
            outline=float(random.uniform(0.7, 1)) if flat or random.random() < 0.4 else 0.0,
            outline_color=tuple(random.uniform(0, 0.25, 3).tolist()),
            backdrop=BACKDROPS[random.choice(len(BACKDROPS), p=[0.64, 0.12, 0.12, 0.12])],
            deformation=Deformation(
                height=float(random.choice([1, random.uniform(0.86, 1.16)])),
                eyes=float(random.choice([1, random.uniform(0.82, 1.4)])),
                width=float(random.choice([1, random.uniform(0.82, 1.1)])),
            ),
            length=float(random.uniform(*length)),
            bend=float(random.uniform(*bend)),
            contour=float(random.uniform(1.6, 2.2) if flat else random.uniform(1, 1.8)),
        )
        if not any(alike(style, held.style) for held in HELD_OUT.values()):
            tones = "gray" if dull else HUES[hue]
            return Named(style, WORDS.get(family, ANY_PAINTING), tones, stroke_words(style))


def draw_palette(random: np.random.Generator, hue: float, dull: bool) -> tuple[Color, ...]:
    """Return four colours from dark to light around a hue, the lights drifting away from it."""
    drift = random.normal(0, 0.10)
    strength = random.uniform(0.02, 0.15) if dull else random.uniform(0.45, 0.95)
    low, high = random.uniform(0.03, 0.2), random.uniform(0.82, 0.98)
    colors = []
    for place in np.linspace(0, 1, 4):
        light = low + (high - low) * place
        pale = strength * (1 - 0.55 * place)
        colors.append(colorsys.hls_to_rgb((hue + drift * (place - 0.4)) % 1, light, pale))
    return tuple(colors)


def alike(one: Style, other: Style) -> bool:
    """Tell whether two styles are of one family and much the same colours."""
    near = np.abs(np.array(one.palette[1]) - np.array(other.palette[1])).max() < 0.12
    light = np.abs(np.array(one.palette[-1]) - np.array(other.palette[-1])).max() < 0.2
    return one.texture == other.texture and bool(near and light)
