"""The command ``train``: a style from two pictures."""

from argparse import Namespace
from pathlib import Path

from torch import Tensor

from ..backbones.diffusers_backbone import load_pipeline
from ..image_files import read_mask, read_picture
from ..images import check_pictures
from ..training.events import TrainPictures
from .pipeline import chosen_device, chosen_dtype
from .terminal import say
from .training_options import chosen_training
from .training_run import check_style_path, load_resumed, train_and_save


def run(options: Namespace) -> int:
    """Train, save, and return the exit code.

    Raises:
        ACFunError: a mistake in the options, pictures or folders.
    """
    config = chosen_training(options)
    check_style_path(options.out)
    masks = None if options.face_mask is None else [read_mask(path) for path in options.face_mask]
    pictures = TrainPictures(
        style=_read_checked(options.style_image),
        face=_read_checked(options.face_image),
        face_mask=masks,
    )
    resume = None if options.resume_from is None else load_resumed(options.resume_from)
    device = chosen_device(options.device)
    say(f"Loading {options.model} on {device}.")
    dtype = chosen_dtype(config.precision, device)
    backbone = load_pipeline(options.model, options.clip_vision, device, dtype)
    return train_and_save(backbone, pictures, config, options.out, resume)


def _read_checked(paths: list[Path]) -> list[Tensor]:
    pictures = [read_picture(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        check_pictures(picture, str(path))
    return pictures
