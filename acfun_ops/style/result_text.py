"""What goes with images on real weights: settings, versions, card and times; no image."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict

import torch

from .. import __version__
from .style import Style

_LEFT_OUT = ("format", "style_hash", "run", "parent")
"""Facts of a style that say nothing of how it was trained."""


def result_text(
    style: Style,
    device: torch.device,
    sampling: Mapping[str, object],
    seconds: Mapping[str, float],
    **versions: str,
) -> str:
    """Return one line of JSON to send with the images of a style.

    Args:
        style: that was applied.
        device: what the model computed on.
        sampling: the sampling's settings.
        seconds: what took how long.
        versions: of other programs, by name.
    """
    facts = {name: fact for name, fact in asdict(style.facts).items() if name not in _LEFT_OUT}
    versions |= {"acfun": __version__, "python": platform.python_version()}
    said = {
        "versions": versions | {"torch": torch.__version__},
        "card": _card(device),
        "style": facts,
        "sampling": dict(sampling),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    return json.dumps(said, sort_keys=True)


def _card(device: torch.device) -> dict[str, str | int]:
    if device.type != "cuda":
        return {"name": device.type}
    facts = torch.cuda.get_device_properties(device)
    return {"name": facts.name, "gib": round(facts.total_memory / 2**30)}
