"""What a style is, and the words for it."""

from dataclasses import dataclass, field
from typing import Literal, get_args

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
