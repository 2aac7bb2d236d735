"""What a finished training shows, kept beside its style: its losses, and its previews as JPEGs."""

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.file_io import FileKind, read_safetensors, write_whole
from ...acfun_ops.style.style import StyleFacts
from .preview_image import SIDE, decode_image, jpeg_bytes

log = logging.getLogger("ACFun")
_FILE = FileKind(
    name="ACFun training history",
    key="acfun_history",
    max_bytes=2**20,
    remedy="Delete it; losses and previews of that training are then not shown again.",
)
_SUFFIX = ".history"
_MOST_LOSSES = 40_000
_HEADERS = 2**14


@dataclass(frozen=True)
class TrainingHistory:
    """What a training has shown."""

    losses: list[float]
    """One per step, or fewer at even distances of a very long training."""
    previews: list[Tensor]
    """IMAGEs of one size, 512 pixels wide at most, first to last."""


def write_history(style_path: Path, facts: StyleFacts, history: TrainingHistory) -> None:
    """Write a history beside a style, in 1 MB at most; histories whose style is gone are removed.

    Raises:
        ACFunError: the folder cannot be written.
    """
    stride = len(history.losses) // _MOST_LOSSES + 1
    tensors = {"losses": torch.tensor(history.losses[::stride], dtype=torch.float64)}
    files = [jpeg_bytes(preview, SIDE) for preview in history.previews]
    room = _FILE.max_bytes - _HEADERS - tensors["losses"].nbytes
    while len(files) > 1 and sum(map(len, files)) > room:
        files = files[-3::-2][::-1] + files[-1:]  # Every other one, and always the last.
    for number, file in enumerate(files):
        tensors[f"preview.{number:04}"] = torch.frombuffer(bytearray(file), dtype=torch.uint8)
    metadata = {_FILE.key: json.dumps({"run": facts.run, "steps": facts.steps})}
    write_whole(save(tensors, metadata), style_path.with_suffix(_SUFFIX), "training history")
    for path in style_path.parent.glob(f"*{_SUFFIX}"):
        if not path.with_suffix(style_path.suffix).exists():
            with suppress(OSError):
                path.unlink()


def read_history(folders: Iterable[Path], facts: StyleFacts) -> TrainingHistory:
    """Return the history of a style's training from any of the folders, an empty one if none."""
    for path in (p for folder in folders for p in sorted(folder.glob(f"{facts.run}*{_SUFFIX}"))):
        try:
            tensors, found, _ = read_safetensors(path, _FILE)
        except ACFunError as error:
            log.warning("%s", error)
            continue
        if (found.get("run"), found.get("steps")) == (facts.run, facts.steps):
            names = sorted(name for name in tensors if name.startswith("preview."))
            images = [
                decode_image(tensors[name].to(torch.uint8).numpy().tobytes()) for name in names
            ]
            losses = tensors["losses"].flatten().tolist() if "losses" in tensors else []
            return TrainingHistory(losses, [image for image in images if image is not None])
    return TrainingHistory([], [])
