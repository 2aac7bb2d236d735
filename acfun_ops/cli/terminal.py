"""The terminal: sentences, progress bars, and Ctrl-C as a wish to stop."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tqdm import tqdm


def say(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Write a line to standard error, above any progress bar."""
    tqdm.write(text, file=sys.stderr)


class Progress:
    """A progress bar on standard error; use it in a ``with`` block.

    Args:
        what: stands before the bar.
        total: steps in all.
        first: steps already done.
    """

    def __init__(self, what: str, total: int, first: int = 0) -> None:
        self.bar = tqdm(total=total, initial=first, desc=what, mininterval=0.5, file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def step(self) -> None:
        """Move on by one."""
        self.bar.update()

    def reach(self, step: int, **figures: str) -> None:
        """Move on to a step and show figures beside the bar."""
        self.bar.set_postfix(figures, refresh=False)
        self.bar.update(step - self.bar.n)


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C in a ``with`` block into a wish; the second interrupts as ever.

    Yields:
        A function that tells whether the user wants to stop.
    """
    wishes: list[int] = []

    def wish(number: int, frame: FrameType | None) -> None:
        if wishes:
            raise KeyboardInterrupt
        wishes.append(number)

    previous = signal.signal(signal.SIGINT, wish)
    try:
        yield lambda: bool(wishes)
    finally:
        signal.signal(signal.SIGINT, previous)
