"""Sets of training numbers by name."""

from dataclasses import replace
from typing import Any

from ..errors import ACFunError
from ..messages import Message
from .config import TrainConfig

AS_SET = "as set below"
PRESETS: dict[str, dict[str, Any]] = {
    AS_SET: {},
    "quick look": {"steps": 80, "learning_rate": 1e-3, "style_weight": 0.8, "face_weight": 1.0},
    "balanced": {"steps": 150, "learning_rate": 5e-4, "style_weight": 0.8, "face_weight": 1.0},
    # ACFun's supplied setting: 5 epochs, about 500 steps; it leaves open how the loss aligns.
    "the paper's settings": {
        "steps": 500,
        "learning_rate": 1e-4,
        "style_weight": 0.8,
        "face_weight": 1.0,
    },
}

# What the command line calls them.
PRESET_WORDS = {
    "quick": "quick look",
    "balanced": "balanced",
    "paper": "the paper's settings",
}


def with_preset(config: TrainConfig, preset: str) -> TrainConfig:
    """Return a configuration with a preset's numbers in place of its own.

    Raises:
        ACFunError: there is no such preset.
    """
    if preset not in PRESETS:
        raise ACFunError(
            "preset is '{preset}'; expected one of {presets}.",
            preset=preset,
            presets=", ".join(PRESETS),
        )
    return replace(config, **PRESETS[preset])


def told_preset(preset: str, config: TrainConfig) -> str:
    """Return the sentence that says which numbers a training with a preset uses."""
    numbers = ", ".join(f"{name} {getattr(config, name):g}" for name in PRESETS[preset])
    return Message("Preset {preset}: {numbers}.", preset=preset, numbers=numbers)
