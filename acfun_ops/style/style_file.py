"""Styles on disk: written whole, read with every fact and tensor checked."""

import json
import re
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ..errors import ACFunError
from ..file_io import FileKind, read_metadata, read_safetensors, write_whole
from ..messages import Message
from ..method.concrete_fusion import InsertAt, Statistics
from ..method.injection import parts_of
from ..model_families import FAMILIES
from .model_spec import StyleCard, card_in
from .style import (
    INITIAL_WORD,
    MAX_PARTS,
    METADATA_KEY,
    OFFSET_FORMAT,
    AbstractPart,
    Style,
    StyleFacts,
    style_bytes,
)

STYLE_FILE = FileKind(
    name="ACFun style",
    key=METADATA_KEY,
    max_bytes=256 * 2**20,
    remedy="Expected the safetensors file of an ACFun style; load another file or save the "
    "style again.",
)
RUN_ID = re.compile(r"[0-9a-f]{16}")

_INSERT_STATE = {
    f"{layer}.{kind}" for layer in ("down", "scale", "shift") for kind in ("weight", "bias")
}


def save_style(style: Style, path: str | PathLike[str]) -> int:
    """Write a style to ``path`` in one go and return the file's size in bytes.

    Raises:
        ACFunError: the folder cannot be written, the disk is full, or the style is one that
            :func:`load_style` would refuse; no partial file is left.
    """
    path, content = Path(path), style_bytes(style)
    flaw = STYLE_FILE.excess(len(content)) or _flaw_of(style)
    if flaw is not None:
        raise ACFunError(
            "The style was not written to {path}, because it could not be loaded again: "
            "{flaw}. Train with fewer style pictures, a smaller rank or a lower "
            "learning_rate.",
            path=path,
            flaw=flaw,
        )
    return write_whole(content, path, "style")


def load_style(path: str | PathLike[str]) -> Style:
    """Read a style from a safetensors file; nothing is unpickled.

    Raises:
        ACFunError: the file is missing, truncated, foreign, of a newer format, of absurd size or
            otherwise damaged; the message gives the reason.
    """
    path = Path(path)
    tensors, told, metadata = read_safetensors(path, STYLE_FILE)
    facts = _facts_from(told, path)
    prefixes = ["", *(f"blend.{number}." for number in range(1, len(facts.shares)))]
    kind = "offset." if facts.format == OFFSET_FORMAT else "token."
    own, *others = (_pop_part(tensors, prefix, kind) for prefix in prefixes)
    concrete: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind != "cfun" or rest.count(".") < 2:
            raise STYLE_FILE.damage(
                path, Message("it holds a tensor '{name}' that no style has", name=name[:60])
            )
        block, layer, parameter = rest.rsplit(".", 2)
        concrete.setdefault(block, {})[f"{layer}.{parameter}"] = tensor
    style = Style(
        facts=facts,
        abstract=own.abstract,
        vectors=own.vectors,
        style_tokens=own.style_tokens,
        concrete=concrete,
        card=card_in(metadata),
        others=tuple(others),
    )
    flaw = _flaw_of(style)
    if flaw is not None:
        raise STYLE_FILE.damage(path, flaw)
    return style


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts in a file's metadata, unchecked and without its weights; empty if none."""
    return _table_in(read_metadata(path))


def read_label(path: Path) -> tuple[StyleFacts, StyleCard]:
    """Return what a file says of itself; its weights are not read.

    Raises:
        ACFunError: it says nothing, or is of a newer format.
    """
    metadata = read_metadata(path)
    return _facts_from(_table_in(metadata), path), card_in(metadata)


def _table_in(metadata: dict[str, str]) -> dict[str, Any]:
    try:
        facts = json.loads(metadata.get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _pop_part(tensors: dict[str, Tensor], prefix: str, vectors: str) -> AbstractPart:
    """Take an abstract part out of a file's tensors."""

    def pop_named(kind: str) -> dict[str, Tensor]:
        names = [name for name in tensors if name.startswith(prefix + kind)]
        return {name.removeprefix(prefix + kind): tensors.pop(name) for name in names}

    return AbstractPart(
        abstract=pop_named("afun."),
        vectors=pop_named(vectors),
        style_tokens=tensors.pop(f"{prefix}style_tokens", torch.empty(0)),
    )


def _facts_from(metadata: dict[str, Any], path: Path) -> StyleFacts:
    version = metadata.get("format")
    if not isinstance(version, int) or version < 1:
        raise STYLE_FILE.damage(path, "its format version is missing")
    if version > OFFSET_FORMAT:
        raise ACFunError(
            "{name} has style format {version}; this version of the pack reads up to "
            "{format}. Update the pack.",
            name=path.name,
            version=version,
            format=OFFSET_FORMAT,
        )
    metadata = metadata | {"shares": _shares_in(metadata)}
    kinds = {"str": str, "int": int, "tuple": tuple}
    for fact in fields(StyleFacts):
        value = metadata.get(fact.name)
        options = {"insert_at": get_args(InsertAt), "statistics": get_args(Statistics)}
        good = (
            value in options[fact.name]
            if fact.name in options
            else isinstance(value, kinds.get(getattr(fact.type, "__name__", ""), dict))
        )
        if not good:
            raise STYLE_FILE.damage(
                path,
                Message("its fact '{name}' is missing or not of the right kind", name=fact.name),
            )
    in_range = 1 <= metadata["heads"] <= 64 and metadata["steps"] >= 0
    in_range = in_range and metadata["family"] in FAMILIES
    if in_range and FAMILIES[metadata["family"]].learns_offsets:
        word = metadata["settings"].get(INITIAL_WORD)
        in_range = version == OFFSET_FORMAT and isinstance(word, str) and bool(word.strip())
    else:
        in_range = in_range and version != OFFSET_FORMAT
    if not in_range or not RUN_ID.fullmatch(metadata["run"]):
        raise STYLE_FILE.damage(path, "its facts are out of range")
    return StyleFacts(**{fact.name: metadata[fact.name] for fact in fields(StyleFacts)})


def _shares_in(metadata: dict[str, Any]) -> tuple[float, ...] | None:
    """Return the shares of a blend, () for a style of one, None if they are none."""
    shares = metadata.get("shares", [])
    if not isinstance(shares, list) or not all(isinstance(s, float) for s in shares):
        return None
    in_range = all(0 < share < 1 for share in shares) and abs(sum(shares) - 1) < 1e-6
    is_blend = in_range and len(shares) <= MAX_PARTS
    return tuple(shares) if is_blend or not shares else None


def _flaw_of(style: Style) -> str | None:
    """Return why a style's tensors make no style that can be applied, None if they do."""
    if len(style.others) + 1 != len(style.facts.shares or (1.0,)):
        return "parts of the style are missing"
    parts = [member for _, member in style.members]
    tensors = [t for state in style.concrete.values() for t in state.values()]
    for part in parts:
        tensors += [part.style_tokens, *part.abstract.values(), *part.vectors.values()]
    is_whole = all(p.abstract and p.vectors and p.style_tokens.ndim == 2 for p in parts)
    if not is_whole or not style.concrete:
        return "parts of the style are missing"
    if any(t.dtype != torch.float16 or not torch.isfinite(t).all() for t in tensors):
        return "it holds values that are not finite half-precision numbers"
    same_encoders = all(part.vectors.keys() == style.vectors.keys() for part in parts)
    vectors = [vector for part in parts for vector in part.vectors.values()]
    if not same_encoders or any(vector.ndim != 1 for vector in vectors):
        return "its pseudo-word vectors have the wrong shape"
    if any(set(state) != _INSERT_STATE for state in style.concrete.values()):
        return "an insert is incomplete"
    try:
        parts_of(style.concrete)
        widths = {part.abstract_fusion().text_dim for part in parts}
        style.inserts()
    except (RuntimeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
        reason = str(error).split("\n")[-1].strip()
        return Message("its tensors do not fit together ({reason})", reason=reason)
    if style.facts.format == OFFSET_FORMAT and {len(vector) for vector in vectors} != widths:
        return "its pseudo-word vectors have the wrong shape"
    return None if len(widths) == 1 else "its abstract parts are of different widths"
