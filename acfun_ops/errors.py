"""The one exception for mistakes that a user can make, and what other errors say."""

import torch

from .messages import Message

# CUDA's libraries, MPS and the CPU each have their own words for it.
_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


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
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(sign in text for sign in _MEMORY_SIGNS)
