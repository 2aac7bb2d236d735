"""The styles that no drawing to train on has: ten of taught families, two of untaught ones."""

from .portraits import Deformation
from .styles import ANY_PAINTING, WORDS, Color, Named, Style, stroke_words


def _hex(*colors: str) -> tuple[Color, ...]:
    return tuple(tuple(int(c[i : i + 2], 16) / 255 for i in (0, 2, 4)) for c in colors)


def _named(style: Style, tones: str) -> Named:
    return Named(style, WORDS.get(style.texture, ANY_PAINTING), tones, stroke_words(style))


HELD_OUT = {
    "gold tiles": _named(
        Style(
            palette=_hex("2a1a08", "a0660c", "e0a81c", "fff0b0"),
            texture="tiles",
            keep=0.25,
            period=7.0,
            amount=0.95,
            angle=0.5,
            length=1.2,
            outline=0.7,
            backdrop="halo",
        ),
        tones="yellow",
    ),
    "blue swirls": _named(
        Style(
            palette=_hex("08123c", "1f4fa0", "5aa0d8", "f4e890"),
            texture="swirl",
            keep=0.25,
            period=7.0,
            amount=1.0,
            angle=0.6,
            length=4.5,
            bend=6.5,
            outline=0.6,
        ),
        tones="blue",
    ),
    "red woodcut": _named(
        Style(
            palette=_hex("1a0606", "8a1410", "e84a2c", "fbe8c8"),
            texture="hatch",
            keep=0.12,
            period=6.5,
            amount=1.0,
            levels=4,
            outline=0.9,
            contour=1.8,
        ),
        tones="red",
    ),
    "candy dots": _named(
        Style(
            palette=_hex("401058", "d0208c", "f8a0c0", "fffad0"),
            texture="dots",
            keep=0.25,
            period=6.0,
            amount=0.95,
            outline=0.8,
            outline_color=(0.15, 0.0, 0.25),
            contour=1.5,
            backdrop="blocks",
        ),
        tones="pink",
    ),
    "long green": _named(
        Style(
            palette=_hex("0c2418", "2c7048", "8cc060", "f0f4b8"),
            texture="brush",
            keep=0.3,
            period=4.5,
            amount=0.95,
            angle=1.2,
            length=4.0,
            bend=1.0,
            outline=0.6,
            deformation=Deformation(height=1.12, eyes=0.9, width=0.9),
        ),
        tones="green",
    ),
    "violet wash": _named(
        Style(
            palette=_hex("241848", "6848a8", "b8a0e0", "fbf4ff"),
            texture="wash",
            keep=0.2,
            period=6.5,
            amount=0.95,
            length=1.3,
            bend=3.0,
            outline=0.6,
            outline_color=(0.2, 0.1, 0.35),
        ),
        tones="purple",
    ),
    "teal poster": _named(
        Style(
            palette=_hex("041c24", "0c6c74", "3cc4b4", "fdf2d8"),
            texture="flat",
            keep=0.15,
            levels=4,
            outline=1.0,
            contour=2.2,
            backdrop="stripes",
            deformation=Deformation(eyes=1.25),
        ),
        tones="teal",
    ),
    "pencil": _named(
        Style(
            palette=_hex("181818", "686868", "c0c0bc", "fafaf6"),
            texture="hatch",
            keep=0.08,
            period=5.0,
            amount=0.9,
            angle=2.2,
            outline=0.9,
        ),
        tones="gray",
    ),
    "sunset brush": _named(
        Style(
            palette=_hex("3c0c28", "b83c30", "f8903c", "fff0a8"),
            texture="brush",
            keep=0.3,
            period=6.0,
            amount=0.95,
            angle=2.4,
            length=2.5,
            levels=5,
            outline=0.6,
            backdrop="halo",
        ),
        tones="orange",
    ),
    "ocean tiles": _named(
        Style(
            palette=_hex("061428", "14507c", "48a8c8", "e8fbf4"),
            texture="tiles",
            keep=0.2,
            period=8.5,
            amount=0.9,
            angle=1.0,
            bend=2.5,
            outline=0.8,
            contour=1.6,
            backdrop="stripes",
        ),
        tones="blue",
    ),
    "orange weave": _named(
        Style(
            palette=_hex("3c0c28", "b83c30", "f8903c", "fff0a8"),
            texture="weave",
            keep=0.25,
            period=5.5,
            amount=1.0,
            angle=0.6,
            outline=0.8,
            contour=1.5,
        ),
        tones="orange",
    ),
    "teal engraving": _named(
        Style(
            palette=_hex("041c24", "0c6c74", "3cc4b4", "fdf2d8"),
            texture="engraving",
            keep=0.2,
            period=6.0,
            amount=1.0,
            length=1.1,
            outline=0.9,
            contour=1.6,
        ),
        tones="teal",
    ),
}
