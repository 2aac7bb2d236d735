"""A trained style: its weights, its facts, and the two as bytes.

The bytes are one safetensors file that holds all that applying a style needs, in half precision,
and never the face photo. Facts live in its metadata under one key, as JSON with sorted keys, so
that equal styles are equal bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from safetensors.torch import save
from torch import Tensor

from ..method.abstract_fusion import AbstractFusion
from ..method.concrete_fusion import ConcreteFusion, InsertAt, Statistics

FORMAT = 1
METADATA_KEY = "acfun_style"


@dataclass(frozen=True, kw_only=True)
class StyleFacts:
    """What is known of a style besides its weights.

    format: version of the file's layout. family: "sd1", "sd2", "sdxl", or "custom" for another
    context width. prompt, pseudo_word: what it was trained with. heads: AFun's attention heads.
    insert_at, statistics: CFun's variant.
    steps: optimiser steps done. seed, settings: how it was trained. style_hash: SHA-256 of the
    style pictures as trained on. checkpoint: fingerprint of the base weights. run: names the
    training run, and so its resume file. parent: digest of the style that the run started from,
    empty if none. version: of this pack.
    """

    format: int
    family: str
    prompt: str
    pseudo_word: str
    heads: int
    insert_at: InsertAt
    statistics: Statistics
    steps: int
    seed: int
    settings: dict[str, float | int | str]
    style_hash: str
    checkpoint: str
    run: str
    parent: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Style:
    """A trained style: everything needed to apply it. Tensors are float16, on the CPU.

    abstract: AFun's state dict. vectors: the pseudo-word's token vector ``(d,)`` by text encoder.
    style_tokens: CLIP image tokens ``(n, di)`` of the style pictures. concrete: CFun's state dicts
    by canonical block name.
    """

    facts: StyleFacts
    abstract: Mapping[str, Tensor] = field(repr=False)
    vectors: Mapping[str, Tensor] = field(repr=False)
    style_tokens: Tensor = field(repr=False)
    concrete: Mapping[str, Mapping[str, Tensor]] = field(repr=False)

    @property
    def context_width(self) -> int:
        """Width of the prompt embeddings that the style fuses with."""
        return self.abstract["layers.0.query.weight"].shape[1]

    @property
    def block_widths(self) -> dict[str, int]:
        """Channels of each block that has an insert, by canonical name."""
        return {block: state["scale.weight"].shape[0] for block, state in self.concrete.items()}

    @property
    def digest(self) -> str:
        """SHA-256 of the style's file, hex."""
        return hashlib.sha256(style_bytes(self)).hexdigest()

    def abstract_fusion(self) -> AbstractFusion:
        """Return AFun with this style's weights, float32, frozen."""
        width, image_width = self.context_width, self.style_tokens.shape[-1]
        layers = len({name.split(".")[1] for name in self.abstract})
        state = {name: tensor.float() for name, tensor in self.abstract.items()}
        with torch.device("meta"):  # draws nothing, and takes no memory before the shapes are right
            fusion = AbstractFusion(width, image_width, layers, self.facts.heads)
        fusion.requires_grad_(False).load_state_dict(state, assign=True)
        return fusion

    def inserts(self) -> dict[str, ConcreteFusion]:
        """Return CFun's inserts with this style's weights by block name, float32, frozen."""
        inserts = {}
        for block, state in self.concrete.items():
            channels, rank = state["scale.weight"].shape
            with torch.device("meta"):
                insert = ConcreteFusion(channels, rank, self.facts.statistics).requires_grad_(False)
            weights = {name: tensor.float() for name, tensor in state.items()}
            insert.load_state_dict(weights, assign=True)
            inserts[block] = insert
        return inserts


def style_bytes(style: Style) -> bytes:
    """Return the style's file; equal styles give equal bytes."""
    tensors = {f"afun.{name}": tensor for name, tensor in style.abstract.items()}
    tensors |= {f"token.{encoder}": vector for encoder, vector in style.vectors.items()}
    tensors["style_tokens"] = style.style_tokens
    for block, state in style.concrete.items():
        tensors |= {f"cfun.{block}.{name}": tensor for name, tensor in state.items()}
    facts = json.dumps(asdict(style.facts), sort_keys=True)
    return save({name: t.contiguous() for name, t in tensors.items()}, {METADATA_KEY: facts})
