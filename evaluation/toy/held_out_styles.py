"""The styles that no training drawing has: ten of taught families, two of untaught ones."""

from typing import Any

from .portraits import Deformation
from .styles import ANY_PAINTING, WORDS, Color, Named, Style, Texture, stroke_words


def _style(words: tuple[str, Texture], palette: str, strokes: Any, look: Any) -> Named:
    """Return a style whose palette is given as hex colours, from dark to light."""
    tones, texture = words
    style = Style(tuple(map(_color, palette.split())), texture, **strokes, **look)
    return Named(style, WORDS.get(texture, ANY_PAINTING), tones, stroke_words(style))


def _color(digits: str) -> Color:
    red, green, blue = bytes.fromhex(digits)
    return red / 255, green / 255, blue / 255


HELD_OUT = {
    "gold tiles": _style(
        ("yellow", "tiles"),
        "2a1a08 a0660c e0a81c fff0b0",
        {"period": 7.0, "amount": 0.95, "angle": 0.5, "length": 1.2},
        {"keep": 0.25, "outline": 0.7, "backdrop": "halo"},
    ),
    "blue swirls": _style(
        ("blue", "swirl"),
        "08123c 1f4fa0 5aa0d8 f4e890",
        {"period": 7.0, "amount": 1.0, "angle": 0.6, "length": 4.5, "bend": 6.5},
        {"keep": 0.25, "outline": 0.6},
    ),
    "red woodcut": _style(
        ("red", "hatch"),
        "1a0606 8a1410 e84a2c fbe8c8",
        {"period": 6.5, "amount": 1.0},
        {"keep": 0.12, "levels": 4, "outline": 0.9, "contour": 1.8},
    ),
    "candy dots": _style(
        ("pink", "dots"),
        "401058 d0208c f8a0c0 fffad0",
        {"period": 6.0, "amount": 0.95},
        {
            "keep": 0.25,
            "outline": 0.8,
            "outline_color": (0.15, 0.0, 0.25),
            "contour": 1.5,
            "backdrop": "blocks",
        },
    ),
    "long green": _style(
        ("green", "brush"),
        "0c2418 2c7048 8cc060 f0f4b8",
        {"period": 4.5, "amount": 0.95, "angle": 1.2, "length": 4.0, "bend": 1.0},
        {"keep": 0.3, "outline": 0.6, "deformation": Deformation(height=1.12, eyes=0.9, width=0.9)},
    ),
    "violet wash": _style(
        ("purple", "wash"),
        "241848 6848a8 b8a0e0 fbf4ff",
        {"period": 6.5, "amount": 0.95, "length": 1.3, "bend": 3.0},
        {"keep": 0.2, "outline": 0.6, "outline_color": (0.2, 0.1, 0.35)},
    ),
    "teal poster": _style(
        ("teal", "flat"),
        "041c24 0c6c74 3cc4b4 fdf2d8",
        {},
        {
            "keep": 0.15,
            "levels": 4,
            "outline": 1.0,
            "contour": 2.2,
            "backdrop": "stripes",
            "deformation": Deformation(eyes=1.25),
        },
    ),
    "pencil": _style(
        ("gray", "hatch"),
        "181818 686868 c0c0bc fafaf6",
        {"period": 5.0, "amount": 0.9, "angle": 2.2},
        {"keep": 0.08, "outline": 0.9},
    ),
    "sunset brush": _style(
        ("orange", "brush"),
        "3c0c28 b83c30 f8903c fff0a8",
        {"period": 6.0, "amount": 0.95, "angle": 2.4, "length": 2.5},
        {"keep": 0.3, "levels": 5, "outline": 0.6, "backdrop": "halo"},
    ),
    "ocean tiles": _style(
        ("blue", "tiles"),
        "061428 14507c 48a8c8 e8fbf4",
        {"period": 8.5, "amount": 0.9, "angle": 1.0, "bend": 2.5},
        {"keep": 0.2, "outline": 0.8, "contour": 1.6, "backdrop": "stripes"},
    ),
    "orange weave": _style(
        ("orange", "weave"),
        "3c0c28 b83c30 f8903c fff0a8",
        {"period": 5.5, "amount": 1.0, "angle": 0.6},
        {"keep": 0.25, "outline": 0.8, "contour": 1.5},
    ),
    "teal engraving": _style(
        ("teal", "engraving"),
        "041c24 0c6c74 3cc4b4 fdf2d8",
        {"period": 6.0, "amount": 1.0, "length": 1.1},
        {"keep": 0.2, "outline": 0.9, "contour": 1.6},
    ),
}
