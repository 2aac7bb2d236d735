"""Sets of training numbers by name."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from ..errors import ACFunError
from ..messages import Message
from .config import TrainConfig

PRESETS: dict[str, dict[str, Any]] = {
    "quick look": {"steps": 80, "learning_rate": 1e-3},
    "balanced": {"steps": 150, "learning_rate": 5e-4},
    # ACFun's supplied setting: 5 epochs, about 500 steps.
    "the paper's settings": {"steps": 500, "learning_rate": 1e-4},
}

# What the command line calls them.
PRESET_WORDS = {
    "quick": "quick look",
    "balanced": "balanced",
    "paper": "the paper's settings",
}


def with_preset(config: TrainConfig, preset: str, fixed: Collection[str] = ()) -> TrainConfig:
    """Return a configuration with a preset's numbers in place of its own, but for the fixed ones.

    Raises:
        ACFunError: there is no such preset.
    """
    if preset not in PRESETS:
        raise ACFunError(
            "preset is '{preset}'; expected one of {presets}.",
            preset=preset,
            presets=", ".join(PRESETS),
        )
    return replace(config, **{n: v for n, v in PRESETS[preset].items() if n not in fixed})


def told_preset(preset: str, config: TrainConfig) -> str:
    """Return the sentence that says which numbers a training with a preset uses."""
    numbers = ", ".join(f"{name} {getattr(config, name):g}" for name in PRESETS[preset])
    return Message("Preset {preset}: {numbers}.", preset=preset, numbers=numbers)
