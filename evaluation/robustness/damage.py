"""Seeded damage to safetensors files: cut, flipped, rewritten, foreign and hostile ones."""

import json
import pickle
import random
import struct
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import save

from ..comfyui_host import load

TINY = load("tiny_styles")
NAMES: tuple[str, ...]
NAMES = ("", "../../evil", "cfun.x", "afun.layers.9.out.weight", "cfun.input_blocks.-1.0.down.bias")
NAMES += ("token." + "x" * 5000, "token.\0", "token.\u202e", "__metadata__", "weights.", "kept.a")
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F4", "X", "", None, 3)
SIZES: tuple[Any, ...]
SIZES = (0, 1, 3, -1, 2**31, 2**40, 2**63, 2**64 - 1, 10**30, 1.5, None, "4", [])
VALUES: tuple[Any, ...]
VALUES = (None, True, -1, 0, 65, 2**70, 1e308, "", "x" * 10_000, "\ud800", [], {}, [[]], "../x")
TEXTS = ("", "{", "[]", "null", "3", '"x"', "NaN", "[" * 50_000, '{"a":' * 20_000, "\0")
FOREIGN = (
    b"",
    b"\0" * 64,
    b"PK\3\4" + b"\0" * 60,
    b"GGUF" + b"\3" * 60,
    b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
    b"<!DOCTYPE html><html><body>Sign in</body></html>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7000000\n",
    pickle.dumps({"state_dict": [1.0] * 20}),
    save({"lora.weight": torch.zeros(2, 2)}, {"format": "pt"}),
)

Damage = Callable[[bytes, str, random.Random], bytes]


def cut(content: bytes, key: str, rng: random.Random) -> bytes:
    """Leave out the end."""
    return content[: rng.randrange(len(content))]


def lengthen(content: bytes, key: str, rng: random.Random) -> bytes:
    """Add bytes at the end."""
    return content + rng.randbytes(rng.randint(1, 300))


def flip(content: bytes, key: str, rng: random.Random) -> bytes:
    """Change a few bytes anywhere."""
    return _flip(content, len(content), rng)


def flip_header(content: bytes, key: str, rng: random.Random) -> bytes:
    """Change a few bytes of the header or its length."""
    return _flip(content, 8 + struct.unpack("<Q", content[:8])[0], rng)


def other_length(content: bytes, key: str, rng: random.Random) -> bytes:
    """Give another length for the header."""
    return struct.pack("<Q", rng.choice([rng.getrandbits(64), rng.randrange(4096)])) + content[8:]


def spoil_values(content: bytes, key: str, rng: random.Random) -> bytes:
    """Put values that are not finite, or random ones, into the tensors."""
    start, changed = 8 + struct.unpack("<Q", content[:8])[0], bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(start, len(content) - 1)
        changed[at : at + 2] = rng.choice([b"\x00\x7c", b"\xff\xff", b"\x01\x7e", b"ab"])
    return bytes(changed)


def rewrite_tensor(content: bytes, key: str, rng: random.Random) -> bytes:
    """Give a tensor another type, shape, position or name, or none."""
    header, data = TINY.split_file(content)
    name = rng.choice([n for n in header if n != "__metadata__"])
    entry, what = header[name], rng.randrange(6)
    if what == 0:
        entry["dtype"] = rng.choice(DTYPES)
    elif what == 1:
        entry["shape"] = [rng.choice(SIZES) for _ in range(rng.randint(0, 5))]
    elif what == 2:
        entry["data_offsets"] = [rng.choice(SIZES) for _ in range(rng.randint(0, 3))]
    elif what == 3:
        header[rng.choice(NAMES)] = header.pop(name)
    elif what == 4:
        header[rng.choice(NAMES)] = dict(entry)
    else:
        header[name] = rng.choice(VALUES)
    return TINY.join_file(header, data)


def rewrite_facts(content: bytes, key: str, rng: random.Random) -> bytes:
    """Give a fact another value or none, or write no JSON at all."""
    header, data = TINY.split_file(content)
    facts = json.loads(header["__metadata__"][key])
    fact = rng.choice([*facts, "unknown"])
    what = rng.randrange(4)
    if what == 0:
        facts.pop(fact, None)
    else:
        facts[fact] = rng.choice(VALUES)
    text = rng.choice(TEXTS) if what == 1 else json.dumps(facts)
    header["__metadata__"] = rng.choice([{key: text}] * 9 + [{}, {"x": text}, text, None])
    return TINY.join_file(header, data)


def foreign(content: bytes, key: str, rng: random.Random) -> bytes:
    """Return a file of another kind, or noise."""
    return rng.choice([*FOREIGN, rng.randbytes(rng.randint(1, 4000))])


def splice(content: bytes, key: str, rng: random.Random) -> bytes:
    """Copy a piece of the file over another part of it."""
    start, end = sorted(rng.randrange(len(content)) for _ in range(2))
    place = rng.randrange(len(content))
    return content[:place] + content[start:end] + content[place + (end - start) :]


DAMAGES: tuple[Damage, ...] = (
    cut,
    lengthen,
    flip,
    flip_header,
    other_length,
    spoil_values,
    rewrite_tensor,
    rewrite_facts,
    foreign,
    splice,
)


def _flip(content: bytes, length: int, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(length)] ^= rng.randint(1, 255)
    return bytes(changed)
