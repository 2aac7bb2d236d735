"""The options of a training run, checked once, and their presets."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

from ..errors import ACFunError
from ..messages import Message
from ..method.alignment_loss import ALIGNMENTS, Alignment
from ..method.concrete_fusion import InsertAt, Statistics
from ..pseudo_word import has_pseudo_word

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Checkpointing = Literal["auto", "on", "off"]
CHOICES: dict[str, tuple[str, ...]] = {
    "alignment": ALIGNMENTS,
    "precision": get_args(Precision),
    "gradient_checkpointing": get_args(Checkpointing),
    "insert_at": get_args(InsertAt),
    "statistics": get_args(Statistics),
}
"""The values of each option that takes one of a few."""

PRESETS: dict[str, dict[str, Any]] = {
    "quick look": {"steps": 80, "learning_rate": 1e-3},
    "balanced": {"steps": 150, "learning_rate": 5e-4},
    # ACFun's supplied setting: 5 epochs, about 500 steps.
    "the paper's settings": {"steps": 500, "learning_rate": 1e-4},
}

# What the command line calls them.
PRESET_WORDS = {"quick": "quick look", "balanced": "balanced", "paper": "the paper's settings"}

_KINDS = {int: "a whole number", float: "a number", str: "a text"}


def _option(
    default: Any, help: str, low: float = -math.inf, high: float = math.inf, **more: bool
) -> Any:
    return field(default=default, metadata={"help": help, "low": low, "high": high, **more})


# Options that the node has no input for and ``--help`` does not show.
_research = partial(_option, research=True)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train a style. Each field's metadata holds its help text and its range.

    Raises:
        ACFunError: a value is out of range, or the prompt lacks the pseudo-word.
    """

    prompt: str = _option(
        "A painting of a person in S* style",
        "What both pictures show, with S* where the style is named. Describe the face in a few "
        "words: 'A painting of a woman with glasses in S* style'. A bare 'S*' lets the style leak.",
    )
    steps: int = _option(
        150,
        "Optimiser steps in all, 1 or more; resumed steps count. Raise it to follow both pictures "
        "more closely, lower it to follow the prompt more.",
        1,
        1_000_000,
    )
    learning_rate: float = _option(
        5e-4,
        "Step size of AdamW, above 0 and up to 1. Raise it to learn more in as many steps; halve "
        "it if the loss is not finite.",
        0,
        1,
    )
    style_weight: float = _option(
        0.8,
        "Pull towards the style picture, 0 to 10. Raise it for more style, lower it for a closer "
        "likeness: its ratio to face_weight counts, and 1 : 1 is the full style.",
        0,
        10,
    )
    face_weight: float = _option(
        1.0, "Pull towards the face photo, 0 to 10. Raise it for a closer likeness.", 0, 10
    )
    seed: int = _option(
        0,
        "Seeds weights, noise and dropout: same inputs and seed give the same style.",
        0,
        2**64 - 1,
    )
    resolution: int = _option(
        0,
        "Side of the training squares in pixels; 0 takes the model's own (512, 768 or 1024). Lower "
        "it to need less memory.",
        0,
    )
    preview_every: int = _option(
        50, "Draw a preview picture every so many steps; 0 turns previews off.", 0
    )
    rank: int = _option(
        32,
        "Width of each CFun bottleneck, 1 to 512. Raise it for finer detail in a larger file: one "
        "of SD1.5 has 7 MB at 32, 11 MB at 64 and 65 MB at 512.",
        1,
        512,
    )
    alignment: Alignment = _option(
        "drawn",
        "How the loss aligns face and style. Keep drawn for strokes as well as colours; choose "
        "staged to start at once, with colours alone. paired, imagery (the paper's text taken "
        "literally, slower) and blend are there to compare.",
    )
    precision: Precision = _option(
        "auto", "What the U-Net computes in; auto takes the model's own. Trainables stay fp32."
    )
    gradient_checkpointing: Checkpointing = _option(
        "auto",
        "Turn it on to need less memory, at about a third more time. auto decides from the free "
        "memory, and turns it on when memory runs out.",
    )
    pseudo_word: str = _research("S*", "The word in the prompt that is learnt.")
    initial_word: str = _research("style", "The pseudo-word's vector starts at this word's.")
    layers: int = _research(2, "Attention layers of AFun, 1 to 8.", 1, 8)
    heads: int = _research(8, "Attention heads of AFun, 1 to 64.", 1, 64)
    dropout: float = _research(
        0.05, "Share of AFun's attention dropped in training, 0 to 0.9.", 0, 0.9
    )
    insert_at: InsertAt = _research("resblock", "Where CFun sits; 'attention' is an ablation.")
    statistics: Statistics = _research("std", "What drives CFun; 'mean_std' is an ablation.")

    def __post_init__(self) -> None:
        for option, spec in self.__dataclass_fields__.items():
            value, low, high = getattr(self, option), spec.metadata["low"], spec.metadata["high"]
            kind, values = type(spec.default), CHOICES.get(option)
            facts = {"option": option, "value": value, "low": low, "high": high}
            if type(value) is not kind and (kind, type(value)) != (float, int):
                raise ACFunError(
                    "{option} is {value!r}; expected {kinds}, as {default!r}.",
                    kinds=_KINDS[kind],
                    default=spec.default,
                    **facts,
                )
            if isinstance(value, int | float) and not low <= value <= high:
                raise ACFunError(
                    "{option} is {value}; expected {low:,} or more. Raise it."
                    if high == math.inf
                    else "{option} is {value}; expected {low:,} to {high:,}. Set it within that "
                    "range.",
                    **facts,
                )
            if values is not None and value not in values:
                raise ACFunError(
                    "{option} is '{value}'; expected one of {values}.",
                    values=", ".join(values),
                    **facts,
                )
        if self.learning_rate == 0 or self.style_weight + self.face_weight == 0:
            raise ACFunError(
                "learning_rate and one of style_weight and face_weight must be above 0, or nothing "
                "is learnt. Raise them."
            )
        if self.resolution % 64:
            raise ACFunError(
                "resolution is {resolution}; expected 0 or a multiple of 64.",
                resolution=self.resolution,
            )
        if not self.prompt.strip():
            raise ACFunError(
                "The training prompt is empty. Describe the face and name the style, for "
                "example: A painting of a woman in {pseudo_word} style.",
                pseudo_word=self.pseudo_word,
            )
        if not has_pseudo_word(self.prompt, self.pseudo_word):
            raise ACFunError(
                "The training prompt '{prompt}' does not name the style: it needs "
                "{pseudo_word} as a word of its own. Write, for example: A painting of a "
                "woman in {pseudo_word} style.",
                prompt=self.prompt[:80],
                pseudo_word=self.pseudo_word,
            )


def is_research(option: str) -> bool:
    """Tell whether an option is a switch for research only."""
    return "research" in TrainConfig.__dataclass_fields__[option].metadata


def help_of(option: str) -> str:
    """Return an option's help text."""
    text: str = TrainConfig.__dataclass_fields__[option].metadata["help"]
    return text


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


def describe_preset(preset: str, config: TrainConfig) -> str:
    """Return the sentence that says which numbers a training with a preset uses."""
    numbers = ", ".join(f"{name} {getattr(config, name):g}" for name in PRESETS[preset])
    return Message("Preset {preset}: {numbers}.", preset=preset, numbers=numbers)
