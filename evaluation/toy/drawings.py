"""The training set: drawings with their captions and their true labels, from one seed."""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .captions import caption
from .labels import label_rows
from .paintings import paint, photograph
from .people import draw_person, draw_pose
from .random_styles import draw_style
from .styles import TEXTURES, UNTAUGHT, Texture

COUNT = 48_000
UNTAUGHT_COUNT = 6000
SEED = 12
CHUNK = 500
PHOTOS = 0.5


@dataclass(frozen=True)
class Drawings:
    """``pictures (n, 64, 64, 3)`` in uint8, their captions, and their label rows ``(n, l)``."""

    pictures: np.ndarray
    captions: list[str]
    labels: np.ndarray


def training_drawings(work: Path) -> tuple[Drawings, str]:
    """Return the training set, drawn once and kept in a work folder, and a line for the log."""
    return _kept(work / "drawings.npz", COUNT, SEED, TEXTURES)


def untaught_drawings(work: Path) -> tuple[Drawings, str]:
    """Return drawings of the families that only the autoencoder may see, likewise."""
    return _kept(work / "untaught.npz", UNTAUGHT_COUNT, SEED + 1, UNTAUGHT)


def _kept(path: Path, count: int, seed: int, textures: tuple[Texture, ...]) -> tuple[Drawings, str]:
    line = ""
    if not path.exists():
        start = time.perf_counter()
        drawn = draw_set(count, seed, textures=textures)
        np.savez(
            path, pictures=drawn.pictures, captions=np.array(drawn.captions), labels=drawn.labels
        )
        line = f"{count} drawings of seed {seed} took {time.perf_counter() - start:.0f} s"
    with np.load(path) as file:
        return Drawings(file["pictures"], file["captions"].tolist(), file["labels"]), line


def draw_set(
    count: int, seed: int, workers: int = 2, textures: tuple[Texture, ...] = TEXTURES
) -> Drawings:
    """Draw ``count`` portraits, half of them photos; the same seed draws the same set."""
    starts = range(0, count, CHUNK)
    with ProcessPoolExecutor(workers) as pool:
        draw = partial(draw_chunk, count=count, seed=seed, textures=textures)
        chunks = list(pool.map(draw, starts))
    return Drawings(
        np.concatenate([c.pictures for c in chunks]),
        [text for c in chunks for text in c.captions],
        np.concatenate([c.labels for c in chunks]),
    )


def draw_chunk(start: int, count: int, seed: int, textures: tuple[Texture, ...]) -> Drawings:
    """Draw the portraits from ``start`` on, of a set of ``count``: the same ones in any set."""
    random = np.random.default_rng((seed, start))
    pictures, captions, people, landmarks, turns, painted = [], [], [], [], [], []
    for number in range(start, min(start + CHUNK, count)):
        person, pose = draw_person(random), draw_pose(random)
        named = None if random.random() < PHOTOS else draw_style(random, textures)
        if named is None:
            portrait = photograph(person, pose, number)
        else:
            portrait = paint(person, pose, named.style, number)
        pictures.append((portrait.color * 255).round().astype(np.uint8))
        captions.append(caption(person, pose, named, random))
        people.append(person)
        landmarks.append(list(portrait.landmarks.values()))
        turns.append(pose.turn)
        painted.append(named is not None)
    labels = label_rows(people, np.array(landmarks, np.float32), np.array(turns), painted)
    return Drawings(np.stack(pictures), captions, labels)
