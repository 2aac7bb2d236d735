"""Small styles with random weights, and the places of their tensors in a file.

Run as a program it writes the SHA-256 of the sample style's file, for a test of two processes.
"""

import hashlib
import json
import struct
import sys
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from acfun_ops.method.concrete_fusion import ConcreteFusion, Statistics
from acfun_ops.style.style import METADATA_KEY, Style, StyleFacts, style_bytes
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.trainable_style import TrainableStyle

# Nothing here is a default of TrainConfig, so that a fact which is lost and filled in shows.
FACTS = StyleFacts(
    format=1,
    family="sdxl",
    prompt='A sketch of a man in X! style, "quoted", ünïcode',
    pseudo_word="X!",
    heads=2,
    insert_at="attention",
    statistics="mean_std",
    steps=123,
    seed=2**64 - 1,
    settings={"learning_rate": 0.1 + 0.2, "rank": 3, "alignment": "paired", "dropout": 1e-7},
    style_hash="5" * 64,
    checkpoint="c0ffee",
    run="0123456789abcdef",
    parent="9" * 64,
    version="7.8.9",
)
WIDTHS = {"output_blocks.2.0": 6, "input_blocks.1.0": 4, "middle_block.0": 4}
TEXT_WIDTH, IMAGE_WIDTH, RANK, LAYERS = 16, 8, 3, 2
CHANNELS = 6
"""Of the features that :func:`untrained_insert` takes."""


def new_trainables(seed: int = 0, **changes: Any) -> TrainableStyle:
    """Return untrained trainables."""
    shape: dict[str, Any] = {
        "text_dim": TEXT_WIDTH,
        "image_dim": IMAGE_WIDTH,
        "widths": WIDTHS,
        "vectors": {"l": torch.ones(TEXT_WIDTH), "g": torch.zeros(5)},
    }
    config: dict[str, Any] = {
        "layers": LAYERS,
        "heads": FACTS.heads,
        "dropout": 0.0,
        "rank": RANK,
        "statistics": FACTS.statistics,
    }
    for name, value in changes.items():
        (shape if name in shape else config)[name] = value
    generator = torch.Generator().manual_seed(seed)
    return TrainableStyle(TrainConfig(**config), **shape, generator=generator)


def randomized(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Return the module with every weight drawn anew, zeros included, as training leaves it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return module


def untrained_insert(statistics: Statistics = "std", channels: int = CHANNELS) -> ConcreteFusion:
    """Return an insert of rank 3 as a training begins with it."""
    insert = ConcreteFusion(channels, 3, statistics)
    insert.reset_parameters(torch.Generator().manual_seed(1))
    return insert


def sample_style(seed: int = 0, **facts: Any) -> Style:
    """Return a trained-looking style; equal seeds give equal styles."""
    tokens = torch.randn(5, IMAGE_WIDTH, generator=torch.Generator().manual_seed(seed))
    return randomized(new_trainables(seed), seed).to_style(replace(FACTS, **facts), tokens)


def tensors_of(style: Style) -> dict[str, Tensor]:
    """Return all tensors of a style by the names they have in its file."""
    tensors = {f"afun.{name}": tensor for name, tensor in style.abstract.items()}
    tensors |= {f"token.{name}": tensor for name, tensor in style.vectors.items()}
    tensors["style_tokens"] = style.style_tokens
    for block, state in style.concrete.items():
        tensors |= {f"cfun.{block}.{name}": tensor for name, tensor in state.items()}
    return tensors


def split_file(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the data of a safetensors file."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join_file(header: dict[str, Any], data: bytes) -> bytes:
    """Return a safetensors file from a header and data."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def with_metadata(content: bytes, text: str) -> bytes:
    """Return a style file with other text where its facts stand."""
    header, data = split_file(content)
    return join_file(header | {"__metadata__": {METADATA_KEY: text}}, data)


if __name__ == "__main__":
    sys.stdout.write(hashlib.sha256(style_bytes(sample_style())).hexdigest())
