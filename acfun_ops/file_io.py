"""Files that are whole or absent, and safetensors read with suspicion; nothing is unpickled."""

import errno
import json
import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import ACFunError
from .messages import Message

MAX_TENSORS = 4096
_LONGEST_REASON = 200
TEMPORARY = ".acfun-*.tmp"
"""What a file is called while it is written; a crash may leave one behind."""

# Network and FUSE mounts that know no fsync say so with one of these; the file is written anyway.
_NO_FSYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """One of our own kinds of safetensors files."""

    name: str
    """What the user calls it."""
    key: str
    """Of its JSON in the metadata."""
    max_bytes: int
    """A larger file is none."""
    remedy: str
    """What to do with a damaged one, a sentence."""

    def excess(self, size: int) -> str | None:
        """Return what is said of a file of so many bytes, None if it may be as large."""
        return (
            Message("it is {size:.0f} MB large", size=size / 2**20)
            if size > self.max_bytes
            else None
        )

    def damage(self, path: Path, reason: str) -> ACFunError:
        """Return the error that says why a file is none of this kind."""
        short = " ".join(reason.split())[:_LONGEST_REASON]  # Libraries cite what is in a file.
        return ACFunError(
            "{name} is no usable {kind}: {short}. {remedy}",
            name=path.name,
            kind=self.name,
            short=short,
            remedy=self.remedy,
        )


def check_can_be_written(path: Path) -> None:
    """Try whether a file of this name, and its folders, could be made; nothing is left behind.

    Raises:
        OSError: they could not: no permission, a file where a folder should be, a name too long.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    present = next((folder for folder in path.parents if folder.exists()), None)
    if present is None:  # A drive or a share that is not there.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    for name in path.relative_to(present).parts:
        with suppress(FileNotFoundError):
            (present / name).lstat()  # Refuses what this file system takes for no name.
    with tempfile.TemporaryFile(dir=present):
        pass


def check_place(path: Path, what: str) -> None:
    """Refuse a path that cannot be written, before the work whose result it is for.

    Args:
        path: of the file to be.
        what: it will be, for the sentence.

    Raises:
        ACFunError: a folder, no permission, or a name that cannot be.
    """
    try:
        check_can_be_written(path)
    except OSError as error:
        raise ACFunError(
            f"The {what} could not be written to {path}: {error.strerror or error}. Choose another "
            "name, in a folder that can be written."
        ) from error


def write_whole(content: bytes, path: Path, what: str) -> int:
    """Write a file under a temporary name and rename it, so that it is whole or absent.

    Returns:
        The size in bytes.

    Raises:
        ACFunError: it could not be written.
    """
    # Not made of the file's own name, which may be as long as a name can be.
    temporary = path.with_name(TEMPORARY.replace("*", secrets.token_hex(4)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            _sync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ACFunError(
            "The {what} could not be written to {path}: {value}. Nothing was left behind "
            "there; free some space or choose a folder that can be written, and retry.",
            what=what,
            path=path,
            value=error.strerror or error,
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return len(content)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def read_metadata(path: Path) -> dict[str, str]:
    """Return a safetensors file's metadata without its tensors, empty if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def read_safetensors(
    path: Path, kind: FileKind
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, str]]:
    """Read one of our own safetensors files.

    Returns:
        Its tensors, the JSON under the kind's metadata key, and the whole metadata.

    Raises:
        ACFunError: the file is missing, not safetensors, too large, or made by something else.
    """
    try:
        excess = kind.excess(path.stat().st_size)
        if excess is not None:
            raise kind.damage(path, excess)
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            text = metadata.get(kind.key)
            names = list(file.keys())
            if text is None or len(names) > MAX_TENSORS:
                raise kind.damage(path, "it was not made by this pack")
            # Cloned, or the file would stay mapped and Windows could not replace it.
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except OSError as error:
        raise ACFunError(
            "{name} could not be read: {value}. Choose another file.",
            name=path.name,
            value=error.strerror or error,
        ) from error
    except SafetensorError as error:
        raise kind.damage(
            path, Message("it is no whole safetensors file ({error})", error=error)
        ) from error
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise kind.damage(path, "its metadata is no JSON") from error
    if not isinstance(facts, dict):
        raise kind.damage(path, "its metadata is no table")
    return tensors, facts, metadata
