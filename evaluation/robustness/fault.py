"""What a fault is, and what a place must offer where training runs meet it."""

from dataclasses import dataclass
from typing import Protocol

from .failing_disk import DiskFault

STEPS = 4
OPERATIONS = ("open", "write", "fsync", "replace")


class Place(Protocol):
    """Where trainings run: ComfyUI's nodes or the command line."""

    name: str

    def train(self, effect: str | None, calls: tuple[int, ...], previews: bool) -> None:
        """Train ``STEPS`` steps; an effect befalls those calls of the U-Net, counted from 1.

        The errors that the place raises by design end here; any other comes out.
        """
        ...

    def kept_steps(self) -> int:
        """Load the style that is on disk; return its steps. Raises what loading raises."""
        ...

    def clear(self) -> None:
        """Remove what trainings have left."""
        ...


@dataclass(frozen=True)
class Fault:
    """One fault: a disk's or an effect on the U-Net, and how many steps the style must have."""

    text: str
    least: int
    disk: DiskFault | None = None
    effect: str | None = None
    calls: tuple[int, ...] = ()
    previews: bool = False
