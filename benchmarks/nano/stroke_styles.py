"""The second edition's styles: seven families to train on; members and two families held out."""

from dataclasses import replace

import numpy as np

from .paintings import BACKDROPS, TEXTURES, Texture
from .portraits import Deformation
from .strokes import StrokeStyle
from .styles import HELD_OUT, HUES, WORDS, Named, alike, draw_palette

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


def draw_style(random: np.random.Generator, textures: tuple[Texture, ...] = TEXTURES) -> Named:
    """Draw a style of some families at random; none is a held-out one."""
    while True:
        hue = int(random.integers(len(HUES)))
        dull = random.random() < 0.25
        family = textures[random.integers(len(textures))]
        (near, far), length, bend = RANGES[family]
        flat = family == "flat"
        style = StrokeStyle(
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
        if not any(alike(style, held.style) for held in HELD_OUT_STROKES.values()):
            tones = "gray" if dull else HUES[hue]
            return Named(style, WORDS.get(family, ANY_PAINTING), tones, stroke_words(style))


def stroke_words(style: StrokeStyle) -> str:
    """Return what a caption says of strokes: ``with bold strokes and outlines``."""
    (near, far), _, _ = RANGES[style.texture]
    said = []
    if far > near:
        said.append(f"{FINE_OR_BOLD[int(style.period > (near + far) / 2)]} strokes")
    if style.outline:
        said.append("outlines")
    return f"with {' and '.join(said)}" if said else ""


def _held_out() -> dict[str, Named]:
    """Return the first edition's held-out styles in strokes, and two of families never taught."""
    manners: dict[str, dict[str, float]] = {
        "gold tiles": {"period": 7.0, "amount": 0.95, "length": 1.2},
        "blue swirls": {"period": 7.0, "amount": 1.0, "bend": 6.5, "length": 4.5},
        "red woodcut": {"period": 6.5, "amount": 1.0, "contour": 1.8},
        "candy dots": {"period": 6.0, "amount": 0.95, "contour": 1.5},
        "long green": {"period": 4.5, "amount": 0.95, "length": 4.0, "bend": 1.0},
        "violet wash": {"period": 6.5, "amount": 0.95, "length": 1.3, "bend": 3.0},
        "teal poster": {"contour": 2.2},
        "pencil": {"period": 5.0, "amount": 0.9},
        "sunset brush": {"period": 6.0, "amount": 0.95, "length": 2.5},
        "ocean tiles": {"period": 8.5, "amount": 0.9, "bend": 2.5, "contour": 1.6},
    }
    held = {}
    for name, manner in manners.items():
        first = HELD_OUT[name]
        style = StrokeStyle(**{**vars(first.style), **manner})
        held[name] = replace(first, style=style, strokes=stroke_words(style))
    weave = StrokeStyle(
        palette=held["sunset brush"].style.palette,
        texture="weave",
        keep=0.25,
        period=5.5,
        amount=1.0,
        angle=0.6,
        outline=0.8,
        contour=1.5,
    )
    engraving = StrokeStyle(
        palette=held["teal poster"].style.palette,
        texture="engraving",
        keep=0.2,
        period=6.0,
        length=1.1,
        amount=1.0,
        outline=0.9,
        contour=1.6,
    )
    held["orange weave"] = Named(weave, ANY_PAINTING, "orange", stroke_words(weave))
    held["teal engraving"] = Named(engraving, ANY_PAINTING, "teal", stroke_words(engraving))
    return held


HELD_OUT_STROKES = _held_out()
