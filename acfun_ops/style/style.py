"""A trained style: its weights, its facts, and the two as bytes.

The bytes are one safetensors file that holds all that applying a style needs, in half precision,
and never the face photo. Facts live in its metadata under one key, as JSON with sorted keys, and
beside it stands what other programs read; equal styles are equal bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import torch
from safetensors.torch import save
from torch import Tensor

from ..method.abstract_fusion import AbstractFusion
from ..method.concrete_fusion import ConcreteFusion, InsertAt, Statistics
from .model_spec import StyleCard, model_spec

FORMAT = 1
BLEND_FORMAT = 2  # Has several abstract parts, which earlier versions of the pack would refuse.
OFFSET_FORMAT = 3  # Its pseudo-word is an offset; it may have several abstract parts as well.
MAX_PARTS = 16
"""Abstract parts of a blend; each takes about a megabyte and an encoding of the prompt."""
METADATA_KEY = "acfun_style"
CLIP_LAYER = "clip_layer"
"""In a style's settings: where CLIP Set Last Layer stood at training, if not at the CLIP's own."""
INITIAL_WORD = "initial_word"
"""In a style's settings: the text that an offset is added to."""


@dataclass(frozen=True, kw_only=True)
class StyleFacts:
    """What is known of a style besides its weights."""

    format: int
    """Version of the file's layout."""
    family: str
    """The base family, a key of ``model_families.FAMILIES``."""
    prompt: str
    """That it was trained with."""
    pseudo_word: str
    """The word in prompts that stands for the style."""
    heads: int
    """AFun's attention heads."""
    insert_at: InsertAt
    """Where CFun sits."""
    statistics: Statistics
    """What drives CFun."""
    steps: int
    """Optimiser steps done."""
    seed: int
    """Of the training."""
    settings: dict[str, float | int | str]
    """The other options of the training, by name."""
    style_hash: str
    """SHA-256 of the style pictures as trained on, hex."""
    checkpoint: str
    """Fingerprint of the base weights, hex."""
    run: str
    """Names the training run, and so its resume file."""
    parent: str
    """Digest of the style that the run started from, empty if none."""
    version: str
    """Of this pack."""
    shares: tuple[float, ...] = ()
    """Of each abstract part of a blend, 1 in all; empty for a style of one."""


@dataclass(frozen=True, kw_only=True)
class AbstractPart:
    """The abstract part of one of the styles that were blended. Tensors are as in a style."""

    abstract: Mapping[str, Tensor]
    """AFun's state dict."""
    vectors: Mapping[str, Tensor]
    """The pseudo-word's token vector or its offset on the encoding, ``(d,)`` by text encoder."""
    style_tokens: Tensor
    """CLIP image tokens ``(n, di)`` of the style pictures."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """A trained style: everything needed to apply it. Tensors are float16, on the CPU."""

    facts: StyleFacts
    """What is known of it."""
    abstract: Mapping[str, Tensor] = field(repr=False)
    """AFun's state dict."""
    vectors: Mapping[str, Tensor] = field(repr=False)
    """The pseudo-word's token vector or its offset on the encoding, ``(d,)`` by text encoder."""
    style_tokens: Tensor = field(repr=False)
    """CLIP image tokens ``(n, di)`` of the style pictures."""
    concrete: Mapping[str, Mapping[str, Tensor]] = field(repr=False)
    """CFun's state dicts by canonical block name."""
    card: StyleCard = field(default_factory=StyleCard)
    """What people say of it."""
    others: tuple[AbstractPart, ...] = field(default=(), repr=False)
    """Further abstract parts of a blend, after the style's own."""

    @property
    def members(self) -> tuple[tuple[float, "Style"], ...]:
        """The abstract parts, each with its share and as a style of one.

        The prompt embedding of a blend is the sum of theirs, times their shares.
        """
        if not self.others:
            return ((1.0, self),)
        own = replace(self, others=())
        further = (
            replace(own, abstract=o.abstract, vectors=o.vectors, style_tokens=o.style_tokens)
            for o in self.others
        )
        return tuple(zip(self.facts.shares, (own, *further), strict=True))

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
        """SHA-256 of the style's weights and facts, hex; what people say of it changes nothing."""
        return hashlib.sha256(save(_tensors_by_name(self), _facts_of(self))).hexdigest()

    def abstract_fusion(self) -> AbstractFusion:
        """Return AFun with this style's weights, float32, frozen."""
        inner, width = self.abstract["layers.0.query.weight"].shape
        image_width = self.style_tokens.shape[-1]
        layers = len({name.split(".")[1] for name in self.abstract})
        state = {name: tensor.float() for name, tensor in self.abstract.items()}
        with torch.device("meta"):  # draws nothing, and takes no memory before the shapes are right
            fusion = AbstractFusion(width, image_width, layers, self.facts.heads, inner=inner)
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
    facts = style.facts
    side = facts.settings.get("resolution")
    known = side if isinstance(side, int) else 0
    spec = model_spec(facts.family, facts.prompt, facts.pseudo_word, known, style.card)
    return _with_metadata(save(_tensors_by_name(style)), spec | _facts_of(style))


def _tensors_by_name(style: Style) -> dict[str, Tensor]:
    kind = "offset" if style.facts.format == OFFSET_FORMAT else "token"
    tensors = _abstract_tensors(style, kind)
    for number, other in enumerate(style.others, 1):
        named = _abstract_tensors(other, kind).items()
        # Cloned, because a style may be blended in twice, and a file holds no tensor twice.
        tensors |= {f"blend.{number}.{name}": tensor.clone() for name, tensor in named}
    for block, state in style.concrete.items():
        tensors |= {f"cfun.{block}.{name}": tensor for name, tensor in state.items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _abstract_tensors(part: "Style | AbstractPart", kind: str) -> dict[str, Tensor]:
    tensors = {f"afun.{name}": tensor for name, tensor in part.abstract.items()}
    tensors |= {f"{kind}.{encoder}": vector for encoder, vector in part.vectors.items()}
    return tensors | {"style_tokens": part.style_tokens}


def _facts_of(style: Style) -> dict[str, str]:
    facts = asdict(style.facts)
    if not style.facts.shares:
        del facts["shares"]
    return {METADATA_KEY: json.dumps(facts, sort_keys=True)}


def _with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """Put metadata into a safetensors file that has none.

    The library itself writes several keys in an order that differs from call to call.
    """
    size = int.from_bytes(content[:8], "little")
    tensors = json.loads(content[8 : 8 + size])
    whole = {"__metadata__": dict(sorted(metadata.items())), **tensors}
    # Half a surrogate pair, which a text box may hold, is no UTF-8.
    header = json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace")
    header += b" " * (-len(header) % 8)  # The tensors stay aligned.
    return len(header).to_bytes(8, "little") + header + content[8 + size :]
