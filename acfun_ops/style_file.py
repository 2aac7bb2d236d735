"""A trained style and its safetensors file.

One file holds all that applying a style needs, in half precision, and never the face photo. Facts
live in the file's metadata under one key, as JSON with sorted keys, so that equal styles are equal
bytes. Only safetensors is read; nothing is unpickled.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .abstract_fusion import AbstractFusion
from .concrete_fusion import ConcreteFusion, InsertAt, Statistics, part_of
from .errors import ACFunError

FORMAT = 1
METADATA_KEY = "acfun_style"
MAX_FILE_BYTES = 256 * 2**20
MAX_TENSORS = 4096
RUN_ID = re.compile(r"[0-9a-f]{16}")

FAMILIES = ("sd1", "sd2", "sdxl", "custom")

_INSERT_STATE = {
    f"{layer}.{kind}" for layer in ("down", "scale", "shift") for kind in ("weight", "bias")
}


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


def save_style(style: Style, path: Path) -> int:
    """Write a style to ``path`` in one go and return the file's size in bytes.

    Raises:
        ACFunError: the folder cannot be written or the disk is full; no partial file is left.
    """
    return write_whole(style_bytes(style), path, "style")


def write_whole(content: bytes, path: Path, what: str) -> int:
    """Write a file under a temporary name and rename it, so that it is whole or absent.

    Returns:
        The size in bytes.

    Raises:
        ACFunError: it could not be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ACFunError(
            f"The {what} could not be written to {path}: {error.strerror or error}. Nothing was "
            "left behind there; free some space or choose a folder that can be written, and retry."
        ) from error
    return len(content)


def load_style(path: Path) -> Style:
    """Read a style from a safetensors file; nothing is unpickled.

    Raises:
        ACFunError: the file is missing, truncated, foreign, of a newer format, of absurd size or
            otherwise damaged; the message gives the reason.
    """
    tensors, metadata = read_safetensors(path, METADATA_KEY, "ACFun style")
    facts = _facts_from(metadata, path)
    abstract: dict[str, Tensor] = {}
    vectors: dict[str, Tensor] = {}
    concrete: dict[str, dict[str, Tensor]] = {}
    style_tokens = tensors.pop("style_tokens", torch.empty(0))
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "afun":
            abstract[rest] = tensor
        elif kind == "token":
            vectors[rest] = tensor
        elif kind == "cfun" and rest.count(".") >= 2:
            block, layer, parameter = rest.rsplit(".", 2)
            concrete.setdefault(block, {})[f"{layer}.{parameter}"] = tensor
        else:
            raise _damaged(path, f"it holds a tensor '{name[:60]}' that no style has")
    style = Style(
        facts=facts,
        abstract=abstract,
        vectors=vectors,
        style_tokens=style_tokens,
        concrete=concrete,
    )
    _check_tensors(style, path)
    return style


def read_safetensors(path: Path, key: str, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read one of our own safetensors files: its tensors and the JSON under a metadata key.

    Raises:
        ACFunError: the file is missing, not safetensors, too large, or made by something else.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES * (1 if what == "ACFun style" else 16):
            raise _damaged(path, f"it is {size / 2**20:.0f} MB large", what)
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(key)
            names = list(file.keys())
            if text is None or len(names) > MAX_TENSORS:
                raise _damaged(path, "it was not made by this pack", what)
            # Cloned, or the file would stay mapped and Windows could not replace it.
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except OSError as error:
        raise ACFunError(
            f"{path.name} could not be read: {error.strerror or error}. Choose another file."
        ) from error
    except SafetensorError as error:
        raise _damaged(path, f"it is no whole safetensors file ({error})", what) from error
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "its metadata is no JSON", what) from error
    if not isinstance(metadata, dict):
        raise _damaged(path, "its metadata is no table", what)
    return tensors, metadata


def _facts_from(metadata: dict[str, Any], path: Path) -> StyleFacts:
    version = metadata.get("format")
    if not isinstance(version, int) or version < 1:
        raise _damaged(path, "its format version is missing")
    if version > FORMAT:
        raise ACFunError(
            f"{path.name} has style format {version}; this version of the pack reads up to "
            f"{FORMAT}. Update the pack."
        )
    kinds = {"str": str, "int": int}
    for fact in fields(StyleFacts):
        value = metadata.get(fact.name)
        options = {"insert_at": get_args(InsertAt), "statistics": get_args(Statistics)}
        good = (
            value in options[fact.name]
            if fact.name in options
            else isinstance(value, kinds.get(getattr(fact.type, "__name__", ""), dict))
        )
        if not good:
            raise _damaged(path, f"its fact '{fact.name}' is missing or not of the right kind")
    in_range = 1 <= metadata["heads"] <= 64 and metadata["steps"] >= 0
    in_range = in_range and metadata["family"] in FAMILIES
    if not in_range or not RUN_ID.fullmatch(metadata["run"]):
        raise _damaged(path, "its facts are out of range")
    return StyleFacts(**{fact.name: metadata[fact.name] for fact in fields(StyleFacts)})


def _check_tensors(style: Style, path: Path) -> None:
    tensors = [style.style_tokens, *style.abstract.values(), *style.vectors.values()]
    tensors += [tensor for state in style.concrete.values() for tensor in state.values()]
    if (
        not style.abstract
        or not style.vectors
        or not style.concrete
        or style.style_tokens.ndim != 2
    ):
        raise _damaged(path, "parts of the style are missing")
    if any(t.dtype != torch.float16 or not torch.isfinite(t).all() for t in tensors):
        raise _damaged(path, "it holds values that are not finite half-precision numbers")
    if any(vector.ndim != 1 for vector in style.vectors.values()):
        raise _damaged(path, "its pseudo-word vectors have the wrong shape")
    if any(set(state) != _INSERT_STATE for state in style.concrete.values()):
        raise _damaged(path, "an insert is incomplete")
    try:
        for block in style.concrete:
            part_of(block)
        style.abstract_fusion()
        style.inserts()
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        reason = str(error).split("\n")[-1].strip()
        raise _damaged(path, f"its tensors do not fit together ({reason})") from error


def _damaged(path: Path, reason: str, what: str = "ACFun style") -> ACFunError:
    return ACFunError(
        f"{path.name} is no usable {what}: {reason}. Expected a safetensors file written by "
        "Save ACFun Style; load another file or save the style again."
    )
