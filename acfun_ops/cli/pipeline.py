"""The model of a command: its folders, where it computes, and in what."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

import torch

from ..backbones.backbone import DTYPES
from ..errors import ACFunError, first_line
from ..training.config import Precision


def to_path(text: str) -> Path:
    """Return a path in which ~ stands for the home folder, also where no shell has put it in.

    Raises:
        ArgumentTypeError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ArgumentTypeError(f"{text}: {error} Write the folder's whole path.") from error


def add_path(command: ArgumentParser, name: str, kind: str, text: str, **options: Any) -> None:
    """Add an option that takes a path; ``kind`` stands for it in the help."""
    command.add_argument(name, type=to_path, metavar=kind, help=text, **options)


def add_pipeline(command: ArgumentParser, has_image_encoder: bool = True) -> None:
    """Add the options that name a pipeline and a device."""
    text = "a local diffusers pipeline of the SD1.x, SD2.x or SDXL family, in safetensors"
    add_path(command, "--model", "DIR", text, required=True)
    if has_image_encoder:
        text = "a CLIP vision model (ViT-L/14), if the pipeline has none"
        add_path(command, "--clip-vision", "DIR", text)
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")


def choose_device(name: str) -> torch.device:
    """Return a device by name; "auto" takes the GPU if there is one.

    Raises:
        ACFunError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ACFunError(
            f"There is no device '{name}' here: {first_line(error)} Use cpu or auto."
        ) from error


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return what to load a pipeline in; "auto" is half precision on a CUDA GPU only."""
    automatic = torch.float16 if device.type == "cuda" else torch.float32
    return DTYPES.get(precision, automatic)
