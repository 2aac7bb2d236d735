"""Completion of the command line in a shell, where shtab is installed (extra ``completion``)."""

from argparse import ArgumentParser

try:
    import shtab
except ModuleNotFoundError:
    shtab = None

FILE = None if shtab is None else shtab.FILE
"""Put as ``complete`` on an argument that takes a file or a folder."""


def add_completion(parser: ArgumentParser) -> None:
    """Add ``--print-completion``, which writes a shell's completion script, if shtab is there."""
    if shtab is not None:
        shtab.add_argument_to(parser, "--print-completion", help="for this shell, and exit")
