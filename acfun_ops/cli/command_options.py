"""The options of the command line; those of ``train`` come from TrainConfig."""

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

from .. import __version__
from ..training.config import PRECISIONS, TrainConfig, help_of

_TRAIN = """examples:
  python -m acfun_ops train --model ./stable-diffusion-v1-5 --style a.png --face b.png \\
      --out my.safetensors --prompt "A painting of a woman in S* style"
  python -m acfun_ops train ... --steps 800 --resume my.safetensors

Ctrl-C stops after the current step and saves; my.resume beside the style lets --resume go on
exactly and may be deleted; a finished training leaves none. Exit codes: 0 done, 1 diverged or out
of memory (the last good style is saved), 2 a mistake, 130 Ctrl-C."""
_TRAIN_MANY = """examples:
  python -m acfun_ops train-many pairs.csv --model ./stable-diffusion-v1-5 --out styles/
  python -m acfun_ops train-many pairs.csv ... --address 192.0.2.10:6379

pairs.csv has a line for each pair below a header such as
  style,face,name,prompt
  monet.png,anna.jpg,anna_monet,A painting of a woman with glasses in S* style
style and face are needed; name, mask and every option under "training" may be columns, and an
empty cell takes the option of the command. Paths are relative to the CSV file's folder.

Each pair is a task on Ray (pip install ".[cluster]"): on one GPU where there is any, else on CPU
cores. Started again, the command skips the styles that are done and goes on with those that are
not; a training whose worker dies is started again by itself. Every machine of a cluster must see
the same folders. results.csv in the folder of the styles tells how each pair ended. Exit codes:
0 all done, 1 some failed, 2 a mistake and nothing was started, 130 Ctrl-C."""
_GENERATE = """examples:
  python -m acfun_ops generate --model ./stable-diffusion-v1-5 --style-file my.safetensors \\
      --prompt "A painting of a woman in S* style, autumn leaves" --out out.png
  python -m acfun_ops generate ... --count 4 --seed 10 --decoder-strength 0.5

Prompts are taken literally: (word:1.2) has no meaning here."""
_INSPECT = """example:
  python -m acfun_ops inspect my.safetensors"""
_DEMO = """example:
  python -m acfun_ops demo

The demo's model is a toy for trying and testing. For pictures, use ComfyUI with an SD checkpoint,
or the commands train and generate with a Stable Diffusion pipeline."""


def new_parser() -> ArgumentParser:
    """Return the parser; the chosen command's name is in ``command``."""
    parser = ArgumentParser(
        prog="python -m acfun_ops",
        description="ACFun: one style picture and one face photo become a style for a diffusion "
        "model. Works on local files; nothing is downloaded.",
    )
    parser.add_argument("--version", action="version", version=__version__)
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


def _add_train(command: ArgumentParser) -> None:
    _add_pipeline(command)
    for name, text in (
        ("style", "one or more pictures in the style, of which 8 are used"),
        ("face", "one or more photos of one face"),
        ("face-mask", "white where the face counts; one, or one per photo"),
    ):
        command.add_argument(
            f"--{name}",
            type=_path,
            nargs="+",
            action="extend",
            required=name != "face-mask",
            metavar="PICTURE",
            help=text,
        )
    command.add_argument(
        "--out",
        type=_path,
        required=True,
        metavar="FILE",
        help="the style's file, .safetensors",
    )
    command.add_argument(
        "--resume",
        type=_path,
        metavar="FILE",
        help="a style to go on from; steps count from it",
    )
    _add_training(command)


def _add_train_many(command: ArgumentParser) -> None:
    command.add_argument("pairs", type=_path, help="the list of pairs, a CSV file")
    _add_pipeline(command)
    command.add_argument(
        "--out", type=_path, required=True, metavar="DIR", help="folder for the styles"
    )
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
    _add_training(command)


def _add_training(command: ArgumentParser) -> None:
    group = command.add_argument_group("training")
    kinds = get_type_hints(TrainConfig)
    for option in fields(TrainConfig):
        group.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=type(option.default),
            choices=get_args(kinds[option.name]) or None,
            default=option.default,
            metavar=None if get_args(kinds[option.name]) else type(option.default).__name__.upper(),
            help=f"{help_of(option.name)} (default: {option.default})".replace("%", "%%"),
        )


def _add_generate(command: ArgumentParser) -> None:
    _add_pipeline(command)
    command.add_argument(
        "--style-file", type=_path, required=True, metavar="FILE", help="a trained style"
    )
    command.add_argument("--prompt", required=True, help="any prompt; S* in it names the style")
    command.add_argument(
        "--out",
        type=_path,
        required=True,
        metavar="FILE",
        help="the picture: .png, .jpg or .webp",
    )
    command.add_argument("--negative", default="", metavar="PROMPT", help="what to stay away from")
    command.add_argument("--precision", choices=PRECISIONS, default="auto", help="of the model")
    for name, default, text in (
        ("seed", 0, "seed of the first picture"),
        ("count", 1, "pictures, each with the next seed, which then stands in its name"),
        ("steps", 30, "steps of the sampler (Euler)"),
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
    command.add_argument("file", type=_path, help="a style file")


def _add_demo(command: ArgumentParser) -> None:
    command.add_argument(
        "--out",
        type=_path,
        default=Path("acfun_demo"),
        metavar="DIR",
        help="folder for the style and the contact sheet (default: acfun_demo)",
    )


def _add_pipeline(command: ArgumentParser) -> None:
    command.add_argument(
        "--model",
        type=_path,
        required=True,
        metavar="DIR",
        help="a local diffusers pipeline of the SD1.x, SD2.x or SDXL family, in safetensors",
    )
    command.add_argument(
        "--image-encoder",
        type=_path,
        metavar="DIR",
        help="a CLIP vision model (ViT-L/14), if the pipeline has none",
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
