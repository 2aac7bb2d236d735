"""The grid of a picture and the cells in it that strokes, dots and tiles fill."""

import numpy as np

from .portraits import Plane


def grid(side: int) -> tuple[Plane, Plane]:
    """Return x and y ``(side, side)`` in pixels of a 64 px picture."""
    axis = np.arange(side, dtype=np.float32) * (64 / side)
    x, y = np.meshgrid(axis, axis)
    return x, y


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
