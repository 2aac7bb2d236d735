"""What a fault is, and what a host must offer where training runs meet it."""

from dataclasses import dataclass
from typing import Protocol

from .failing_disk import DiskFault

STEPS = 4
OPERATIONS = ("open", "write", "fsync", "replace")


class Host(Protocol):
    """Where training runs: ComfyUI's nodes or the command line."""

    name: str

    def train(self, effect: str | None, calls: tuple[int, ...], has_previews: bool) -> None:
        """Train ``STEPS`` steps, saving after each; an effect changes some calls of the U-Net.

        Errors that the host raises by design end here; any other is raised.

        Args:
            effect: "memory", "cancel", "nan" or "error", after "preview " in previews only.
            calls: which ones, from 1; all if empty.
            has_previews: whether there are previews.
        """

    def steps_on_disk(self) -> int:
        """Load the style that is on disk; return its steps, 0 without one."""

    def clear(self) -> None:
        """Remove what earlier runs left."""


@dataclass(frozen=True)
class Fault:
    """One fault: a disk's or an effect on the U-Net, and how many steps the style must have."""

    text: str
    least: int
    disk: DiskFault | None = None
    effect: str | None = None
    calls: tuple[int, ...] = ()
    has_previews: bool = False
