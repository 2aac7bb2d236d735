"""The one exception for mistakes that a user can make, and what other errors say."""

import re

from .messages import Message

# CUDA's libraries, MPS and the CPU each have their own words for it.
_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
_EXTRAS = {"diffusers": "headless", "PIL": "headless", "tqdm": "headless", "ray": "cluster"}
# How the lazy modules of diffusers and transformers report what they could not import.
_LAZY = re.compile(r"Failed to import (\w+)\S* because of the following error")


class ACFunError(ValueError):
    """A mistake a user can correct.

    The message says what happened, what was expected, what was found and what to do.

    Args:
        template: the text, with a hole for each value, see :class:`Message`.
        values: what stands in the holes.
    """

    def __init__(self, template: str, /, **values: object) -> None:
        super().__init__(Message(template, **values))

    @property
    def message(self) -> Message:
        """The text with its template and values."""
        message: Message = self.args[0]
        return message


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind if it has none."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the GPU's or the machine's memory is used up."""
    text = str(error).lower()
    # By its name: torch's own is imported with torch alone.
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or any(sign in text for sign in _MEMORY_SIGNS)


def library_error(error: ImportError | RuntimeError) -> ACFunError | None:
    """Return what to do about a library that is missing or of a version that does not work.

    None if the error is another one.
    """
    lazy = _LAZY.match(str(error))
    name = lazy[1] if lazy else (getattr(error, "name", None) or "").split(".")[0]
    if not name or name == __package__:
        return None
    extra = f"[{_EXTRAS[name]}]" if name in _EXTRAS else ""
    if isinstance(error, ModuleNotFoundError):
        return ACFunError(f'{name} is not installed. Run: pip install ".{extra}"')
    reason = str(error).strip().split("\n")[-1]
    return ACFunError(
        f"The installed {name} does not work, alone or with the other libraries: {reason}. Run: "
        'pip install --upgrade ".[headless]"'
    )
