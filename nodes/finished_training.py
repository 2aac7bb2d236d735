"""Trainings that need not be repeated: the finished style of the same run, found on disk."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.style.style import METADATA_KEY, Style, StyleFacts
from ..acfun_ops.style.style_file import load_style
from .sockets import log
from .style_folder import style_names, style_path


def finished_style(facts: StyleFacts, steps: int) -> tuple[str, Style] | None:
    """Return the style of a run with all its steps, and its listed name, None if there is none.

    Args:
        facts: of the run: pictures, settings, checkpoint and CLIP vision make its name, and the
            pack's version must be the same.
        steps: that the style must have.
    """
    wanted = {"run": facts.run, "version": facts.version, "steps": steps}
    for name in style_names():
        try:
            path = style_path(name)
            if wanted.items() <= _facts_in(path).items():
                return name, load_style(path)
        except ACFunError as error:
            log.warning("%s", error)
    return None


def _facts_in(path: Path) -> dict[str, object]:
    """Return the facts in a file's metadata without reading its weights, empty if it has none."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except (OSError, SafetensorError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
