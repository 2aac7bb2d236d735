"""The command line's parser. A command brings its own options, and is imported if it is given."""

import importlib
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from .. import __version__

SCRIPT = "acfun"
"""What the command is called where the package is installed."""

COMMANDS = {
    "train": "train a style on a diffusers pipeline",
    "train-many": "train a list of pairs, on many GPUs",
    "generate": "draw pictures with a style",
    "inspect": "show what is in a style file",
    "demo": "train and draw with a bundled toy model",
}


def parse_arguments(arguments: Sequence[str] | None = None) -> Namespace:
    """Return the options of the chosen command, and its function as ``run``.

    Args:
        arguments: those of the process if there are none given.

    Raises:
        SystemExit: help was asked for, or an option is unknown or missing.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    return new_parser(given[0] if given else "").parse_args(given)


def new_parser(chosen: str = "") -> ArgumentParser:
    """Return the parser; only the chosen command has its options, and costs its imports."""
    is_script = Path(sys.argv[0]).stem == SCRIPT
    parser = ArgumentParser(
        prog=SCRIPT if is_script else "python -m acfun_ops",
        description="ACFun: one style picture and one face photo become a style for a diffusion "
        "model. Works on local files; nothing is downloaded.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=RawDescriptionHelpFormatter,
        )
        if name == chosen:
            module = importlib.import_module(f".{name.replace('-', '_')}", __package__)
            module.add_options(command)
            command.epilog = module.EXAMPLES
            command.set_defaults(run=module.run)
    return parser
