"""The command ``train``: a style from two pictures."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..backbones.diffusers_backbone import load_pipeline
from ..image_files import read_image, read_mask
from ..images import check_images
from ..training.events import TrainImages
from .pipeline import add_path, add_pipeline, choose_device, choose_dtype
from .terminal import say
from .training_run import (
    add_training,
    check_style_path,
    load_resumed,
    train_and_save,
    training_config,
)

EXAMPLES = """examples:
  %(prog)s --model ./stable-diffusion-v1-5 --style-image a.png --face-image b.png \\
      --out my.safetensors --prompt "A painting of a woman in S* style"
  %(prog)s ... --preset quick
  %(prog)s ... --steps 800 --resume-from my.safetensors

Ctrl-C stops after the current step and saves; my.resume beside the style lets --resume-from go on
exactly and may be deleted; a finished training leaves none. What has not finished never takes the
place of another file: it is saved as my_2.safetensors then. Exit codes: 0 done, 1 diverged or out
of memory (the last good style is saved), 2 a mistake or out of memory before the first step,
130 Ctrl-C."""


def add_options(command: ArgumentParser) -> None:
    """Add the options of ``train``."""
    add_pipeline(command)
    for name, is_required, text in (
        ("style-image", True, "one or more pictures in the style, of which 8 are used"),
        ("face-image", True, "one or more photos of one face"),
        ("face-mask", False, "white where the face counts; one, or one per photo"),
    ):
        several: dict[str, Any] = {"nargs": "+", "action": "extend", "required": is_required}
        add_path(command, f"--{name}", "PICTURE", text, **several)
    add_path(command, "--out", "FILE", "the style's file, .safetensors", required=True)
    text = "a style to go on from; --steps is the total, those of the same training included"
    add_path(command, "--resume-from", "FILE", text)
    add_training(command)


def run(options: Namespace) -> int:
    """Train, save, and return the exit code.

    Raises:
        ACFunError: a mistake in the options, pictures or folders.
    """
    config = training_config(options)
    check_style_path(options.out)
    masks = None if options.face_mask is None else [read_mask(path) for path in options.face_mask]
    pictures = TrainImages(
        style=_read_checked(options.style_image),
        face=_read_checked(options.face_image),
        face_mask=masks,
    )
    resume = None if options.resume_from is None else load_resumed(options.resume_from)
    device = choose_device(options.device)
    say(f"Loading {options.model} on {device}.")
    dtype = choose_dtype(config.precision, device)
    backbone = load_pipeline(options.model, options.clip_vision, device, dtype)
    return train_and_save(backbone, pictures, config, options.out, resume)


def _read_checked(paths: list[Path]) -> list[Tensor]:
    pictures = [read_image(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        check_images(picture, str(path))
    return pictures
