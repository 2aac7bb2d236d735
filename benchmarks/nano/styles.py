"""The words for styles, and the ten held-out ones that the first edition is evaluated on."""

import colorsys
from dataclasses import dataclass

import numpy as np

from .paintings import Color, Style, Texture
from .portraits import Deformation

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
class Named:
    """A style with the words that a caption has for it: its family, its colours, its strokes."""

    style: Style
    words: str
    tones: str
    strokes: str = ""


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


def _hex(*colors: str) -> tuple[Color, ...]:
    return tuple(tuple(int(c[i : i + 2], 16) / 255 for i in (0, 2, 4)) for c in colors)


HELD_OUT = {
    "gold tiles": Named(
        Style(
            palette=_hex("2a1a08", "a0660c", "e0a81c", "fff0b0"),
            texture="tiles",
            keep=0.25,
            period=6,
            amount=0.7,
            angle=0.5,
            outline=0.7,
            backdrop="halo",
        ),
        words=WORDS["tiles"],
        tones="yellow",
    ),
    "blue swirls": Named(
        Style(
            palette=_hex("08123c", "1f4fa0", "5aa0d8", "f4e890"),
            texture="swirl",
            keep=0.25,
            period=6,
            amount=0.75,
            angle=0.6,
            outline=0.6,
        ),
        words=WORDS["swirl"],
        tones="blue",
    ),
    "red woodcut": Named(
        Style(
            palette=_hex("1a0606", "8a1410", "e84a2c", "fbe8c8"),
            texture="hatch",
            keep=0.12,
            amount=0.75,
            levels=4,
            outline=0.9,
        ),
        words=WORDS["hatch"],
        tones="red",
    ),
    "candy dots": Named(
        Style(
            palette=_hex("401058", "d0208c", "f8a0c0", "fffad0"),
            texture="dots",
            keep=0.25,
            amount=0.7,
            outline=0.8,
            outline_color=(0.15, 0.0, 0.25),
            backdrop="blocks",
        ),
        words=WORDS["dots"],
        tones="pink",
    ),
    "long green": Named(
        Style(
            palette=_hex("0c2418", "2c7048", "8cc060", "f0f4b8"),
            texture="brush",
            keep=0.3,
            period=6,
            amount=0.75,
            angle=1.2,
            outline=0.6,
            deformation=Deformation(height=1.12, eyes=0.9, width=0.9),
        ),
        words=WORDS["brush"],
        tones="green",
    ),
    "violet wash": Named(
        Style(
            palette=_hex("241848", "6848a8", "b8a0e0", "fbf4ff"),
            texture="wash",
            keep=0.2,
            period=6,
            amount=0.8,
            outline=0.6,
            outline_color=(0.2, 0.1, 0.35),
        ),
        words=WORDS["wash"],
        tones="purple",
    ),
    "teal poster": Named(
        Style(
            palette=_hex("041c24", "0c6c74", "3cc4b4", "fdf2d8"),
            texture="flat",
            keep=0.15,
            levels=4,
            outline=1.0,
            backdrop="stripes",
            deformation=Deformation(eyes=1.25),
        ),
        words=WORDS["flat"],
        tones="teal",
    ),
    "pencil": Named(
        Style(
            palette=_hex("181818", "686868", "c0c0bc", "fafaf6"),
            texture="hatch",
            keep=0.08,
            amount=0.75,
            angle=2.2,
            outline=0.9,
        ),
        words=WORDS["hatch"],
        tones="gray",
    ),
    "sunset brush": Named(
        Style(
            palette=_hex("3c0c28", "b83c30", "f8903c", "fff0a8"),
            texture="brush",
            keep=0.3,
            amount=0.75,
            angle=2.4,
            levels=5,
            outline=0.6,
            backdrop="halo",
        ),
        words=WORDS["brush"],
        tones="orange",
    ),
    "ocean tiles": Named(
        Style(
            palette=_hex("061428", "14507c", "48a8c8", "e8fbf4"),
            texture="tiles",
            keep=0.2,
            period=6,
            amount=0.65,
            angle=1.0,
            outline=0.8,
            backdrop="stripes",
        ),
        words=WORDS["tiles"],
        tones="blue",
    ),
}
