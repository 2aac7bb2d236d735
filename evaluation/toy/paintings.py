"""A painting by formula: a style turns a portrait's colours, contours and light into paint."""

import numpy as np

from .people import Person, Pose
from .portraits import Plane, Portrait, portray
from .strokes import LUMINANCE, add_strokes, contours, grid
from .styles import Style


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
    picture = _add_backdrop(portrait, style)
    picture = _map_palette(picture, style)
    picture = add_strokes(picture, portrait, style, random)
    ink = contours(portrait, style)[..., None]
    picture += ink * (np.array(style.outline_color, np.float32) - picture)
    portrait.color = picture.clip(0, 1).astype(np.float32)
    return portrait


def _add_backdrop(portrait: Portrait, style: Style) -> Plane:
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


def _map_palette(picture: Plane, style: Style) -> Plane:
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
