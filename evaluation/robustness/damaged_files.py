"""Damaged style and resume files: each is refused with one sentence or loads as it is written."""

import random
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from acfun_ops.errors import ACFunError
from acfun_ops.style.style import METADATA_KEY, style_bytes
from acfun_ops.style.style_file import load_style
from acfun_ops.training.checkpoint import STATE_FILE, load_state, save_state

from ..comfyui_host import load
from .damage import DAMAGES

MAX_GROWTH_MB = 200
MAX_FAILURES = 20


@dataclass
class FilesResult:
    """What became of the damaged files: counts, seconds, MB of memory, and each failure."""

    files: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    loaded: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    growth_mb: float = 0.0


@dataclass(frozen=True)
class Kind:
    """A kind of file: an intact one, its metadata key, and what reads and writes it."""

    name: str
    key: str
    content: bytes
    load: Callable[[Path], Any]
    write: Callable[[Any, Path], bytes]


def check_files(count: int, seed: int = 0) -> FilesResult:
    """Damage `count` files, alternately styles and training states, and read each."""
    result, started = FilesResult(), time.monotonic()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        kinds = _kinds(folder)
        _check_one(kinds[0], kinds[0].content, folder, result, "whole")  # Imports what is lazy.
        before = _peak_mb()
        for number in range(count):
            rng, kind = random.Random(seed * 10**9 + number), kinds[number % 2]
            damage = DAMAGES[number // 2 % len(DAMAGES)]
            content = damage(kind.content, kind.key, rng)
            if rng.random() < 0.02:  # What is named a style may be a training state.
                kind = kinds[1 - number % 2]
            _check_one(kind, content, folder, result, f"{kind.name}, {damage.__name__}, {number}")
            if len(result.failures) >= MAX_FAILURES:
                break
        result.growth_mb = _peak_mb() - before
    result.seconds = time.monotonic() - started
    if result.growth_mb > MAX_GROWTH_MB:
        result.failures.append(f"memory grew by {result.growth_mb:.0f} MB")
    return result


def _check_one(kind: Kind, content: bytes, folder: Path, result: FilesResult, what: str) -> None:
    path = folder / "damaged.safetensors"
    path.write_bytes(content)
    before = path.stat().st_mtime_ns
    result.files += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = kind.load(path)
        result.loaded[kind.name] += 1
        if not _loads_as_written(kind, loaded, folder / "again.safetensors"):
            result.failures.append(f"{what}: loads otherwise when it is written again")
    except ACFunError as error:
        result.refused[kind.name] += 1
        if "\n" in str(error) or len(str(error)) > 1000:
            result.failures.append(f"{what}: no sentence: {str(error)[:200]!r}")
    except Exception as error:  # noqa: BLE001 - any other error is what is looked for.
        result.failures.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
    if [p.name for p in folder.iterdir()] != [path.name] or path.read_bytes() != content:
        result.failures.append(f"{what}: files were touched")
    if path.stat().st_mtime_ns != before:
        result.failures.append(f"{what}: the file was written")


def _loads_as_written(kind: Kind, loaded: Any, path: Path) -> bool:
    first = kind.write(loaded, path)
    path.write_bytes(first)
    same = kind.write(kind.load(path), path) == first
    path.unlink()
    return same


def _kinds(folder: Path) -> tuple[Kind, Kind]:
    torch.set_num_threads(1)
    style, training = load("tiny_styles").sample_style(), load("tiny_training")
    state = training.cancelled(training.small_config(rank=1), 2).state

    def write_style(style: Any, path: Path) -> bytes:
        return style_bytes(style)

    def write_state(state: Any, path: Path) -> bytes:
        save_state(state, path)
        return path.read_bytes()

    content = write_state(state, folder / "whole")
    (folder / "whole").unlink()
    return (
        Kind("style", METADATA_KEY, style_bytes(style), load_style, write_style),
        Kind("resume", STATE_FILE.key, content, load_state, write_state),
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
