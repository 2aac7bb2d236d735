"""What names a model: a hash of a sample of its weights."""

import hashlib
from collections.abc import Callable, Iterable

from torch import nn


def fingerprint_of(
    networks: Iterable[nn.Module],
    settings: str = "",
    is_set: Callable[[str], bool] = lambda name: True,
) -> str:
    """Return a SHA-256 of the first 64 values of every weight with its name, in hex.

    Args:
        networks: in an order that is part of the hash.
        settings: what else tells one model from another.
        is_set: tells by a weight's name whether loading has set it; others are left out.
    """
    digest = hashlib.sha256(settings.encode())
    for network in networks:
        for name, weight in network.named_parameters():
            if is_set(name):
                sample = weight.detach().flatten()[:64].float().cpu()
                digest.update(name.encode() + sample.numpy().tobytes())
    return digest.hexdigest()
