"""Distances between pictures in colour, texture and structure, each blind to the others.

Pictures are ``(h, w, 3)`` float arrays in [0, 1], sRGB. numpy alone.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.floating]
Plane = NDArray[np.float64]

PROJECTIONS = 32
QUANTILES = 256
SCALES = 3
ORIENTATIONS = 8
STRUCTURE_SIDE = 16

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _TO_XYZ.sum(axis=1)


def lab(picture: Picture) -> Plane:
    """Return CIE L*a*b* (D65) ``(h, w, 3)``; L* is 0 to 100."""
    rgb = np.asarray(picture, dtype=np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    delta = 6 / 29
    f = np.where(xyz > delta**3, np.cbrt(xyz), xyz / (3 * delta**2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_distance(first: Picture, second: Picture) -> float:
    """Return the sliced Wasserstein distance of the Lab colours; 1 is about one just visible step.

    It does not see where a colour stands (Bonneel et al., 2015, with seeded projections).
    """
    directions = np.random.default_rng(0).normal(size=(3, PROJECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    # The ends are left out, so that one odd pixel does not count.
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    ours, theirs = (
        np.quantile(lab(picture).reshape(-1, 3) @ directions, shares, axis=0)
        for picture in (first, second)
    )
    return float(np.abs(ours - theirs).mean())


def texture_features(picture: Picture) -> Plane:
    """Return statistics of a picture's texture: a vector that no change of colour moves.

    Lightness is brought to mean 0 and deviation 1. From each scale of a Laplacian pyramid: the log
    of the band's energy, how sparse it is (strokes and outlines against smooth shading), and how
    its gradients spread over orientations, for both mirror images together.
    """
    plane = _normal(lab(picture)[..., 0])
    features: list[float] = []
    for _ in range(SCALES):
        smaller = _downsample(plane)
        band = plane - _upsample(smaller, plane.shape)
        energy = np.sqrt(np.square(band).mean())
        features += [np.log(energy + 1e-2), np.abs(band).mean() / (energy + 1e-2)]
        features += list(_orientations(plane))
        plane = smaller
    return np.array(features)


def texture_distance(first: Picture, second: Picture) -> float:
    """Return the Euclidean distance of :func:`texture_features`."""
    return float(np.linalg.norm(texture_features(first) - texture_features(second)))


def structure_correlation(first: Picture, second: Picture) -> float:
    """Return how alike two pictures are laid out: -1 to 1, whatever their colours.

    The mean correlation of lightness and of the strength of its gradients, on a grid of
    ``STRUCTURE_SIDE`` squares a side.
    """
    ours, theirs = (_coarse(lab(picture)[..., 0]) for picture in (first, second))
    pairs = [(ours, theirs), (_steepness(ours), _steepness(theirs))]
    return float(np.mean([(_normal(a) * _normal(b)).mean() for a, b in pairs]))


def pixel_distance(first: Picture, second: Picture) -> float:
    """Return the mean absolute difference of the values, 0 to 1."""
    return float(np.abs(np.asarray(first, np.float64) - np.asarray(second, np.float64)).mean())


def variety(pictures: Sequence[Picture]) -> float:
    """Return the mean pixel distance of every two of the pictures; 0 if all are the same.

    Raises:
        ValueError: fewer than two pictures.
    """
    distances = [pixel_distance(a, b) for a, b in combinations(pictures, 2)]
    if not distances:
        raise ValueError("variety needs two or more pictures")
    return float(np.mean(distances))


def _normal(plane: Plane) -> Plane:
    """Return a plane with mean 0 and deviation 1; one without contrast becomes 0."""
    centred = plane - plane.mean()
    deviation = centred.std()
    return centred / deviation if deviation > 1e-6 else np.zeros_like(centred)


def _downsample(plane: Plane) -> Plane:
    height, width = plane.shape[0] // 2, plane.shape[1] // 2
    blocks = plane[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    return blocks.mean(axis=(1, 3))


def _upsample(plane: Plane, shape: tuple[int, ...]) -> Plane:
    doubled = plane.repeat(2, axis=0).repeat(2, axis=1)
    padding = [(0, shape[0] - doubled.shape[0]), (0, shape[1] - doubled.shape[1])]
    return np.pad(doubled, padding, mode="edge")


def _orientations(plane: Plane) -> Plane:
    """Return the share of gradient strength in each orientation bin, mirrored and averaged.

    Negating a picture turns every gradient by half a circle, so orientations lie in half of one.
    """
    down, across = np.gradient(plane)
    strength = np.hypot(down, across)
    turn = (np.arctan2(down, across) / np.pi) % 1.0
    bins = np.minimum((turn * ORIENTATIONS).astype(int), ORIENTATIONS - 1)
    weights = np.bincount(bins.ravel(), strength.ravel(), ORIENTATIONS)
    weights = (weights + weights[::-1]) / 2
    return weights / (weights.sum() + 1e-9)


def _coarse(plane: Plane) -> Plane:
    rows = np.stack([part.mean(axis=0) for part in np.array_split(plane, STRUCTURE_SIDE)])
    cells = [part.mean(axis=1) for part in np.array_split(rows, STRUCTURE_SIDE, axis=1)]
    return np.stack(cells, axis=1)


def _steepness(plane: Plane) -> Plane:
    down, across = np.gradient(plane)
    return np.hypot(down, across)
