"""Where training runs meet faults: a folder, what is saved in it, and what a host must offer."""

import tempfile
from pathlib import Path

from acfun_ops.style.style_file import load_style

STEPS = 4


class Host:
    """ComfyUI's nodes or the command line, by name, and where they save styles; to be closed."""

    name: str
    styles: Path

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="faults-")
        self.folder = Path(self._folder.name)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def train(
        self, effect: str | None = None, calls: tuple[int, ...] = (), has_previews: bool = False
    ) -> None:
        """Train ``STEPS`` steps, saving after each; an effect changes calls of the U-Net, or all.

        Errors that the host raises by design end here; any other is raised. An effect is "memory",
        "cancel", "nan" or "error", after "preview " in previews only; calls count from 1.
        """
        raise NotImplementedError

    def steps_on_disk(self) -> int:
        """Load the style that is on disk; return its steps, 0 without one."""
        found = self.styles.glob("*.safetensors")
        return max((load_style(path).facts.steps for path in found), default=0)

    def clear(self) -> None:
        """Remove what earlier runs left."""
        for path in filter(Path.is_file, self.styles.glob("*")):
            path.unlink()
