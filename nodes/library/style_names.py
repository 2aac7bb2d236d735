"""The names that people choose styles by: a training's run by its prompt and date."""

import re
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ...acfun_ops.style.style_file import RUN_ID, read_facts

TRAINING = "training"
"""The folder of models/acfun that every training leaves its style in."""

_SHORT = 8  # Digits of a run's name that tell it from all others here.
_LONGEST = 70
_RUN_FILE = re.compile(rf"{TRAINING}[/\\]({RUN_ID.pattern})((?:_\d+)?)\.safetensors")
_LABEL = re.compile(rf"{TRAINING}/.* #([0-9a-f]{{{_SHORT}}})((?:_\d+)?)")


def label_of(name: str, path: Path) -> str:
    """Return what people read for a style's file: "training/A woman, 150 steps, DATE #3f2a1c9d".

    Only files that are called after their run get one; its digits alone find the file again.

    Args:
        name: of the file below models/acfun.
        path: where it is.
    """
    run = _RUN_FILE.fullmatch(name)
    if run is None:
        return name
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return name
    return f"{_told(path, changed)} #{run[1][:_SHORT]}{run[2]}"


def is_label(name: str) -> bool:
    """Tell whether a name is one that :func:`label_of` gives to a training's run."""
    return _LABEL.fullmatch(name) is not None


def file_of(label: str, names: Iterable[str]) -> str | None:
    """Return the name of the file that a label stands for, None if there is none.

    Args:
        label: as :func:`label_of` gave it, perhaps before the file went on training.
        names: of all files below models/acfun.
    """
    wanted = _LABEL.fullmatch(label)
    if wanted is None:
        return None
    for name in names:
        run = _RUN_FILE.fullmatch(name)
        if run is not None and (run[1][:_SHORT], run[2]) == wanted.groups():
            return name
    return None


@lru_cache(maxsize=4096)
def _told(path: Path, changed: int) -> str:
    facts = read_facts(path)
    prompt = " ".join(str(facts.get("prompt", "?")).split())
    short = prompt if len(prompt) <= _LONGEST else f"{prompt[: _LONGEST - 3]}..."
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(changed / 1e9))
    return f"{TRAINING}/{short}, {facts.get('steps', '?')} steps, {date}"
