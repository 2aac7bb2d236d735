"""The options of the command line."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..training.config import PRECISIONS
from .shell_completion import FILE, add_completion
from .training_options import add_training

SCRIPT = "acfun"
"""What the command is called where the package is installed."""

_TRAIN = """examples:
  %(prog)s --model ./stable-diffusion-v1-5 --style-image a.png --face-image b.png \\
      --out my.safetensors --prompt "A painting of a woman in S* style"
  %(prog)s ... --preset quick
  %(prog)s ... --steps 800 --resume-from my.safetensors

Ctrl-C stops after the current step and saves; my.resume beside the style lets --resume-from go on
exactly and may be deleted; a finished training leaves none. What has not finished never takes the
place of another file: it is saved as my_2.safetensors then. Exit codes: 0 done, 1 diverged or out
of memory (the last good style is saved), 2 a mistake or out of memory before the first step,
130 Ctrl-C."""
_TRAIN_MANY = """examples:
  %(prog)s pairs.csv --model ./stable-diffusion-v1-5 --out styles/
  %(prog)s pairs.csv ... --address 192.0.2.10:6379

pairs.csv has a line for each pair below a header such as
  style,face,name,prompt
  monet.png,anna.jpg,anna_monet,A painting of a woman with glasses in S* style
style and face are needed (style_image and face_image are the same); name, mask and every option
under "training" may be columns, and an empty cell takes the option of the command. Paths are
relative to the CSV file's folder.

Each pair is a task on Ray (pip install ".[cluster]"): on one GPU where there is any, else on CPU
cores. Started again, the command skips the styles that are done and goes on with those that are
not; a training whose worker dies is started again by itself. Every machine of a cluster must see
the same folders. results.csv in the folder of the styles tells how each pair ended. Exit codes:
0 all done, 1 some failed, 2 a mistake and nothing was started, 130 Ctrl-C."""
_GENERATE = """examples:
  %(prog)s --model ./stable-diffusion-v1-5 --style-file my.safetensors \\
      --prompt "A painting of a woman in S* style, autumn leaves" --out out.png
  %(prog)s ... --count 4 --seed 10 --decoder-strength 0.5

Prompts are taken literally: (word:1.2) has no meaning here."""
_INSPECT = """example:
  %(prog)s my.safetensors"""
_DEMO = """example:
  %(prog)s

The demo's model is a toy for trying and testing. For pictures, use ComfyUI with an SD checkpoint,
or the commands train and generate with a Stable Diffusion pipeline."""


# Names of 0.1.0, which still work, and what they are called since: as the node's inputs.
_FORMER = {"--image-encoder": "--clip-vision"}
_FORMER_OF_TRAIN = {
    "--style": "--style-image",
    "--face": "--face-image",
    "--resume": "--resume-from",
}


def parsed(arguments: Sequence[str] | None = None) -> Namespace:
    """Return the options; the chosen command's name is in ``command``.

    Args:
        arguments: those of the process if there are none given.

    Raises:
        SystemExit: help was asked for, or an option is unknown or missing.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    former = _FORMER | (_FORMER_OF_TRAIN if given[:1] == ["train"] else {})
    words = [word.partition("=") for word in given]
    named = ["".join((former.get(name, name), *rest)) for name, *rest in words]
    return new_parser("--help-all" in given).parse_args(named)


def new_parser(shows_all: bool = False) -> ArgumentParser:
    """Return the parser, whose help shows the switches for research as well if wanted."""
    is_script = Path(sys.argv[0]).stem == SCRIPT
    parser = ArgumentParser(
        prog=SCRIPT if is_script else "python -m acfun_ops",
        description="ACFun: one style picture and one face photo become a style for a diffusion "
        "model. Works on local files; nothing is downloaded.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    if is_script:
        add_completion(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add, summary, examples in (
        ("train", _add_train, "train a style on a diffusers pipeline", _TRAIN),
        ("train-many", _add_train_many, "train a list of pairs, on many GPUs", _TRAIN_MANY),
        ("generate", _add_generate, "draw pictures with a style", _GENERATE),
        ("inspect", _add_inspect, "show what is in a style file", _INSPECT),
        ("demo", _add_demo, "train and draw with a bundled toy model", _DEMO),
    ):
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=examples,
            formatter_class=RawDescriptionHelpFormatter,
        )
        add(command)
        if name.startswith("train"):
            command.add_argument(
                "--help-all", action="help", help="show the switches for research, too, and exit"
            )
            add_training(command, shows_all)
    return parser


def _path(text: str) -> Path:
    """Return a path in which ~ stands for the home folder, also where no shell has put it in.

    Raises:
        ArgumentTypeError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ArgumentTypeError(f"{text}: {error} Write the folder's whole path.") from error


def _add_file(command: ArgumentParser, name: str, **options: Any) -> None:
    command.add_argument(name, type=_path, **options).complete = FILE  # type: ignore[attr-defined]


def _add_train(command: ArgumentParser) -> None:
    _add_pipeline(command)
    for name, text in (
        ("style-image", "one or more pictures in the style, of which 8 are used"),
        ("face-image", "one or more photos of one face"),
        ("face-mask", "white where the face counts; one, or one per photo"),
    ):
        _add_file(
            command,
            f"--{name}",
            nargs="+",
            action="extend",
            required=name != "face-mask",
            metavar="PICTURE",
            help=text,
        )
    _add_file(
        command,
        "--out",
        required=True,
        metavar="FILE",
        help="the style's file, .safetensors",
    )
    _add_file(
        command,
        "--resume-from",
        metavar="FILE",
        help="a style to go on from; --steps is the total, those of the same training included",
    )


def _add_train_many(command: ArgumentParser) -> None:
    _add_file(command, "pairs", help="the list of pairs, a CSV file")
    _add_pipeline(command)
    _add_file(command, "--out", required=True, metavar="DIR", help="folder for the styles")
    command.add_argument(
        "--address", metavar="HOST:PORT", help="a running Ray cluster; without it, this machine"
    )
    command.add_argument(
        "--cpus-per-task",
        type=int,
        default=1,
        metavar="CORES",
        help="of each training that has no GPU; more cores, fewer trainings at once (default: 1)",
    )


def _add_generate(command: ArgumentParser) -> None:
    _add_pipeline(command, has_vision=False)
    _add_file(command, "--style-file", required=True, metavar="FILE", help="a trained style")
    command.add_argument("--prompt", required=True, help="any prompt; S* in it names the style")
    _add_file(
        command,
        "--out",
        required=True,
        metavar="FILE",
        help="the picture: .png, .jpg or .webp",
    )
    command.add_argument("--negative", default="", metavar="PROMPT", help="what to stay away from")
    command.add_argument("--precision", choices=PRECISIONS, default="auto", help="of the model")
    for name, default, text in (
        ("seed", 0, "seed of the first picture"),
        ("count", 1, "pictures, each with the next seed, which then stands in its name"),
        ("steps", 30, "steps of the pipeline's own scheduler"),
        ("size", 0, "side in pixels, a multiple of 8; 0 takes the model's own"),
        ("guidance", 7.0, "how closely to follow the prompt; 1 is off"),
        ("strength", 1.0, "of the whole style: 0 is off, 1 as trained"),
        ("abstract-strength", 1.0, "of AFun: deformation, layout, atmosphere"),
        ("encoder-strength", 1.0, "of CFun in the encoder: strokes, colours, texture"),
        ("middle-strength", 1.0, "of CFun in the middle"),
        ("decoder-strength", 1.0, "of CFun in the decoder: structure and pose of the face"),
    ):
        command.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{text} (default: {default})"
        )


def _add_inspect(command: ArgumentParser) -> None:
    _add_file(command, "file", help="a style file")


def _add_demo(command: ArgumentParser) -> None:
    _add_file(
        command,
        "--out",
        default=Path("acfun_demo"),
        metavar="DIR",
        help="folder for the style and the contact sheet (default: acfun_demo)",
    )


def _add_pipeline(command: ArgumentParser, has_vision: bool = True) -> None:
    _add_file(
        command,
        "--model",
        required=True,
        metavar="DIR",
        help="a local diffusers pipeline of the SD1.x, SD2.x or SDXL family, in safetensors",
    )
    if has_vision:
        _add_file(
            command,
            "--clip-vision",
            metavar="DIR",
            help="a CLIP vision model (ViT-L/14), if the pipeline has none",
        )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
