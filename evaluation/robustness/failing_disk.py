"""A disk that fails: one operation on the pack's own files raises, once or from then on."""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from typing_extensions import override

PREFIX = ".acfun-"


@dataclass(frozen=True)
class DiskFault:
    """What fails: an operation ("open", "write", "fsync", "replace"), with which errno, when.

    first: the operation, counted from 1. forever: all after it fail as well.
    """

    operation: str
    code: int = errno.ENOSPC
    first: int = 1
    forever: bool = False

    @contextmanager
    def inject(self) -> Iterator[None]:
        """Make the operation fail within a ``with`` block."""
        count = 0

        def check(operation: str) -> None:
            nonlocal count
            if operation != self.operation:
                return
            count += 1
            if count == self.first or (self.forever and count > self.first):
                raise OSError(self.code, os.strerror(self.code))

        open_file, replace, fsync = Path.open, Path.replace, os.fsync

        def open_failing(path: Path, *args: Any, **kwargs: Any) -> Any:
            if not path.name.startswith(PREFIX):
                return open_file(path, *args, **kwargs)
            check("open")
            file = _File(path, *args, **kwargs)
            file.check = check
            return file

        def replace_failing(path: Path, target: Path) -> Any:
            if path.name.startswith(PREFIX):
                check("replace")
            return replace(path, target)

        def sync_failing(descriptor: int) -> None:
            check("fsync")
            fsync(descriptor)

        with (
            mock.patch.object(Path, "open", open_failing),
            mock.patch.object(Path, "replace", replace_failing),
            mock.patch.object(os, "fsync", sync_failing),
        ):
            yield


class _File(io.FileIO):
    """A file of which half is written before the disk is full."""

    check: Callable[[str], None]

    @override
    def write(self, content: Any) -> int:
        try:
            self.check("write")
        except OSError:
            super().write(content[: len(content) // 2])
            raise
        return super().write(content)
