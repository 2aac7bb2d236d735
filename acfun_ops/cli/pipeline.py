"""Where the command line computes, and in what."""

import torch

from ..backbones.backbone import DTYPES
from ..errors import ACFunError, first_line
from ..training.config import Precision


def chosen_device(name: str) -> torch.device:
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


def chosen_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return what to load a pipeline in; "auto" is half precision on a CUDA GPU only."""
    automatic = torch.float16 if device.type == "cuda" else torch.float32
    return DTYPES.get(precision, automatic)
