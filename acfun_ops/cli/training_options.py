"""The options of a training on the command line, which come from TrainConfig and its presets."""

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from ..training.config import TrainConfig, help_of, is_research
from ..training.presets import PRESET_WORDS, PRESETS, told_preset


def add_training(command: ArgumentParser, shows_all: bool) -> None:
    """Add the options of a training to a command.

    Args:
        command: gets them.
        shows_all: whether its help shows the switches for research as well.
    """
    command.add_argument(
        "--preset",
        choices=PRESET_WORDS,
        help="sets steps, learning_rate and both weights, each of which may still be given: quick "
        "for a first idea, balanced for the defaults, paper for a long training",
    )
    group = command.add_argument_group("training")
    kinds = get_type_hints(TrainConfig)
    for option in fields(TrainConfig):
        # Without a default, so that what the user gave can be told from what a preset may set.
        text = f"{help_of(option.name)} (default: {option.default})".replace("%", "%%")
        group.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=type(option.default),
            choices=get_args(kinds[option.name]) or None,
            metavar=None if get_args(kinds[option.name]) else type(option.default).__name__.upper(),
            help=text if shows_all or not is_research(option.name) else SUPPRESS,
        )


def chosen_training(options: Namespace) -> TrainConfig:
    """Return how to train: what the user gave, else the preset's numbers, else the defaults.

    Raises:
        ACFunError: a value is out of range.
    """
    preset = PRESET_WORDS.get(options.preset or "")
    numbers: dict[str, Any] = {} if preset is None else PRESETS[preset]
    every = {option.name: getattr(options, option.name) for option in fields(TrainConfig)}
    config = TrainConfig(**numbers | {n: value for n, value in every.items() if value is not None})
    if preset is not None:
        sys.stderr.write(f"note: {told_preset(preset, config)}\n")
    return config
