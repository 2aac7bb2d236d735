"""Styles on disk: written whole, read with every fact and tensor checked."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ..errors import ACFunError
from ..method.concrete_fusion import InsertAt, Statistics, part_of
from .style import FORMAT, METADATA_KEY, Style, StyleFacts, style_bytes
from .style_card import card_in
from .whole_files import FileKind, read_metadata, read_safetensors, write_whole

STYLE_FILE = FileKind(
    name="ACFun style",
    key=METADATA_KEY,
    max_bytes=256 * 2**20,
    remedy="Expected a safetensors file written by Save ACFun Style; load another file or save the "
    "style again.",
)
RUN_ID = re.compile(r"[0-9a-f]{16}")

FAMILIES = ("sd1", "sd2", "sdxl", "custom")

_INSERT_STATE = {
    f"{layer}.{kind}" for layer in ("down", "scale", "shift") for kind in ("weight", "bias")
}


def save_style(style: Style, path: Path) -> int:
    """Write a style to ``path`` in one go and return the file's size in bytes.

    Raises:
        ACFunError: the folder cannot be written, the disk is full, or the style is one that
            :func:`load_style` would refuse; no partial file is left.
    """
    content = style_bytes(style)
    flaw = STYLE_FILE.too_large(len(content)) or _flaw_of(style)
    if flaw is not None:
        raise ACFunError(
            f"The style was not written to {path}, because it could not be loaded again: {flaw}. "
            "Train with fewer style pictures, a smaller rank or a lower learning_rate."
        )
    return write_whole(content, path, "style")


def load_style(path: Path) -> Style:
    """Read a style from a safetensors file; nothing is unpickled.

    Raises:
        ACFunError: the file is missing, truncated, foreign, of a newer format, of absurd size or
            otherwise damaged; the message gives the reason.
    """
    tensors, metadata = read_safetensors(path, STYLE_FILE)
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
            raise STYLE_FILE.damaged(path, f"it holds a tensor '{name[:60]}' that no style has")
    style = Style(
        facts=facts,
        abstract=abstract,
        vectors=vectors,
        style_tokens=style_tokens,
        concrete=concrete,
        card=card_in(read_metadata(path)),
    )
    flaw = _flaw_of(style)
    if flaw is not None:
        raise STYLE_FILE.damaged(path, flaw)
    return style


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts in a file's metadata, unchecked and without its weights; empty if none."""
    try:
        facts = json.loads(read_metadata(path).get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _facts_from(metadata: dict[str, Any], path: Path) -> StyleFacts:
    version = metadata.get("format")
    if not isinstance(version, int) or version < 1:
        raise STYLE_FILE.damaged(path, "its format version is missing")
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
            raise STYLE_FILE.damaged(
                path, f"its fact '{fact.name}' is missing or not of the right kind"
            )
    in_range = 1 <= metadata["heads"] <= 64 and metadata["steps"] >= 0
    in_range = in_range and metadata["family"] in FAMILIES
    if not in_range or not RUN_ID.fullmatch(metadata["run"]):
        raise STYLE_FILE.damaged(path, "its facts are out of range")
    return StyleFacts(**{fact.name: metadata[fact.name] for fact in fields(StyleFacts)})


def _flaw_of(style: Style) -> str | None:
    """Return why a style's tensors make no style that can be applied, None if they do."""
    tensors = [style.style_tokens, *style.abstract.values(), *style.vectors.values()]
    tensors += [tensor for state in style.concrete.values() for tensor in state.values()]
    parts = (style.abstract, style.vectors, style.concrete)
    if not all(parts) or style.style_tokens.ndim != 2:
        return "parts of the style are missing"
    if any(t.dtype != torch.float16 or not torch.isfinite(t).all() for t in tensors):
        return "it holds values that are not finite half-precision numbers"
    if any(vector.ndim != 1 for vector in style.vectors.values()):
        return "its pseudo-word vectors have the wrong shape"
    if any(set(state) != _INSERT_STATE for state in style.concrete.values()):
        return "an insert is incomplete"
    try:
        for block in style.concrete:
            part_of(block)
        style.abstract_fusion()
        style.inserts()
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        reason = str(error).split("\n")[-1].strip()
        return f"its tensors do not fit together ({reason})"
    return None
