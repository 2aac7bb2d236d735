"""Files that are whole or absent, and safetensors read with suspicion; nothing is unpickled."""

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ACFunError

MAX_TENSORS = 4096


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """One of our own kinds of safetensors files.

    name: what the user calls it. key: of its JSON in the metadata. max_bytes: a larger file is
    none. remedy: what to do with a damaged one, a sentence.
    """

    name: str
    key: str
    max_bytes: int
    remedy: str

    def damaged(self, path: Path, reason: str) -> ACFunError:
        """Return the error that says why a file is none of this kind."""
        return ACFunError(f"{path.name} is no usable {self.name}: {reason}. {self.remedy}")


def write_whole(content: bytes, path: Path, what: str) -> int:
    """Write a file under a temporary name and rename it, so that it is whole or absent.

    Returns:
        The size in bytes.

    Raises:
        ACFunError: it could not be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ACFunError(
            f"The {what} could not be written to {path}: {error.strerror or error}. Nothing was "
            "left behind there; free some space or choose a folder that can be written, and retry."
        ) from error
    return len(content)


def read_safetensors(path: Path, kind: FileKind) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read one of our own safetensors files: its tensors and the JSON under a metadata key.

    Raises:
        ACFunError: the file is missing, not safetensors, too large, or made by something else.
    """
    try:
        size = path.stat().st_size
        if size > kind.max_bytes:
            raise kind.damaged(path, f"it is {size / 2**20:.0f} MB large")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(kind.key)
            names = list(file.keys())
            if text is None or len(names) > MAX_TENSORS:
                raise kind.damaged(path, "it was not made by this pack")
            # Cloned, or the file would stay mapped and Windows could not replace it.
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except OSError as error:
        raise ACFunError(
            f"{path.name} could not be read: {error.strerror or error}. Choose another file."
        ) from error
    except SafetensorError as error:
        raise kind.damaged(path, f"it is no whole safetensors file ({error})") from error
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise kind.damaged(path, "its metadata is no JSON") from error
    if not isinstance(metadata, dict):
        raise kind.damaged(path, "its metadata is no table")
    return tensors, metadata
