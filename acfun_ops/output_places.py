"""Places for files, tried before the work that is to fill them."""

from pathlib import Path

from .errors import ACFunError
from .file_io import check_can_be_written


def check_place(path: Path, what: str) -> None:
    """Refuse a place that cannot be written.

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
