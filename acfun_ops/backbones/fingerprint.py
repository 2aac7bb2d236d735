"""What names a model: a hash of a sample of its weights."""

import hashlib
from collections.abc import Iterable

from torch import Tensor


def fingerprint_of(weights: Iterable[tuple[str, Tensor]], settings: str = "") -> str:
    """Return a SHA-256 of the first 64 values of every weight with its name, in hex.

    Args:
        weights: by name, in an order that is part of the hash.
        settings: what else tells one model from another.
    """
    digest = hashlib.sha256(settings.encode())
    for name, weight in weights:
        sample = weight.detach().flatten()[:64].float().cpu()
        digest.update(name.encode() + sample.numpy().tobytes())
    return digest.hexdigest()
