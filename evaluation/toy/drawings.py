"""The training set: drawings with their captions and their true labels, from one seed."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .captions import caption
from .paintings import paint, photograph
from .people import draw_person, draw_pose
from .reader import label_row
from .styles import TEXTURES, UNTAUGHT, Texture, draw_style

COUNT = 48_000
UNTAUGHT_COUNT = 6000
SEED = 12
CHUNK = 500
PHOTOS = 0.5


@dataclass(frozen=True)
class Drawings:
    """``images (n, 64, 64, 3)`` in uint8, their captions, and their label rows ``(n, l)``."""

    images: np.ndarray
    captions: list[str]
    labels: np.ndarray


def training_drawings(work: Path) -> Drawings:
    """Return the training set, stored in a work folder."""
    return load_drawings(work / "drawings.npz", COUNT, SEED)


def untaught_drawings(work: Path) -> Drawings:
    """Return drawings of the families that only the autoencoder may see, likewise."""
    path = work / "untaught.npz"
    return load_drawings(path, UNTAUGHT_COUNT, SEED + 1, textures=UNTAUGHT)


def load_drawings(path: Path, *args: Any, **options: Any) -> Drawings:
    """Return the drawings of a npz file, which :func:`draw_set` draws if it is missing."""
    if not path.exists():
        drawn = draw_set(*args, **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".new.npz")
        np.savez(written, pictures=drawn.images, captions=drawn.captions, labels=drawn.labels)
        written.replace(path)
    with np.load(path) as file:
        return Drawings(file["pictures"], file["captions"].tolist(), file["labels"])


def draw_set(
    count: int,
    seed: int,
    workers: int = 2,
    textures: tuple[Texture, ...] = TEXTURES,
    first: int | None = None,
) -> Drawings:
    """Draw a set of ``count`` portraits, half of them photos; the same seed draws the same set.

    One worker draws in this process, as a pool's worker may have no processes of its own. first:
    how many of the set to return, from the first on; None returns all.
    """
    first = count if first is None else first
    draw = partial(draw_chunk, count=count, seed=seed, textures=textures)
    starts = range(0, first, CHUNK)
    if workers == 1:
        chunks = [draw(start) for start in starts]
    else:
        with ProcessPoolExecutor(workers) as pool:
            chunks = list(pool.map(draw, starts))
    return Drawings(
        np.concatenate([chunk.images for chunk in chunks])[:first],
        [text for chunk in chunks for text in chunk.captions][:first],
        np.concatenate([chunk.labels for chunk in chunks])[:first],
    )


def draw_chunk(start: int, count: int, seed: int, textures: tuple[Texture, ...]) -> Drawings:
    """Draw the portraits from ``start`` on, of a set of ``count``: the same ones in any set."""
    random = np.random.default_rng((seed, start))
    images, captions, labels = [], [], []
    for number in range(start, min(start + CHUNK, count)):
        person, pose = draw_person(random), draw_pose(random)
        named = None if random.random() < PHOTOS else draw_style(random, textures)
        if named is None:
            portrait = photograph(person, pose, number)
        else:
            portrait = paint(person, pose, named.style, number)
        images.append((portrait.color * 255).round().astype(np.uint8))
        captions.append(caption(person, pose, named, random))
        labels.append(label_row(person, pose, portrait, named is not None))
    return Drawings(np.stack(images), captions, np.stack(labels))
