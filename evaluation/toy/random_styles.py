"""Styles to train on, drawn at random: none is a held-out one."""

import colorsys

import numpy as np

from .held_out_styles import HELD_OUT
from .portraits import Deformation
from .styles import (
    ANY_PAINTING,
    BACKDROPS,
    HUES,
    RANGES,
    TEXTURES,
    WORDS,
    Color,
    Named,
    Style,
    Texture,
    stroke_words,
)


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
