"""Damaged and hostile style and resume files: refused in one sentence, or loaded as saved.

100,000 of each: ``pytest tests/ops/test_damaged_files.py --hypothesis-profile thorough``.
"""

import json
import pickle
import struct
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_styles import join_file, sample_style, split_file
from tiny_training import cancelled, small_config

from acfun_ops.errors import ACFunError
from acfun_ops.style.style import METADATA_KEY
from acfun_ops.style.style_file import load_style, save_style
from acfun_ops.training.checkpoint import STATE_FILE, load_state, save_state

KINDS = {
    "style": (METADATA_KEY, load_style, save_style),
    "resume": (STATE_FILE.key, load_state, save_state),
}
NAMES = ("", "../../evil", "cfun.x", "afun.layers.9.out.weight", "cfun.input_blocks.-1.0.down.bias")
NAMES += ("token." + "x" * 5000, "token.\0", "token.\u202e", "__metadata__", "weights.", "kept.a")
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F4", "X", "", None, 3)
SIZES = (0, 1, 3, -1, 2**31, 2**40, 2**63, 2**64 - 1, 10**30, 1.5, None, "4", [])
VALUES = (None, True, -1, 0, 65, 2**70, 1e308, "", "x" * 10_000, "\ud800", [], {}, [[]], "../x")
TEXTS = ("", "{", "[]", "null", "3", '"x"', "NaN", "[" * 50_000, '{"a":' * 20_000, "\0")
FOREIGN = (
    b"PK\3\4" + b"\0" * 60,
    b"GGUF" + b"\3" * 60,
    b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
    b"<!DOCTYPE html><html><body>Sign in</body></html>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7000000\n",
    pickle.dumps({"state_dict": [1.0] * 20}),
)


def cut(content, key, rng):
    return content[: rng.randrange(len(content))]


def flip(content, key, rng, end=None):
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(end or len(content))] ^= rng.randint(1, 255)
    return bytes(changed)


def flip_header(content, key, rng):
    return flip(content, key, rng, 8 + struct.unpack("<Q", content[:8])[0])


def spoil_values(content, key, rng):
    start, changed = 8 + struct.unpack("<Q", content[:8])[0], bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(start, len(content) - 1)
        changed[at : at + 2] = rng.choice([b"\x00\x7c", b"\xff\xff", b"\x01\x7e", b"ab"])
    return bytes(changed)


def rewrite_tensor(content, key, rng):
    header, data = split_file(content)
    name = rng.choice([n for n in header if n != "__metadata__"])
    entry, what = header[name], rng.randrange(6)
    if what == 0:
        entry["dtype"] = rng.choice(DTYPES)
    elif what in (1, 2):
        part = ("shape", "data_offsets")[what - 1]
        entry[part] = [rng.choice(SIZES) for _ in range(rng.randint(0, 5))]
    elif what == 3:
        header[rng.choice(NAMES)] = header.pop(name)
    elif what == 4:
        header[rng.choice(NAMES)] = dict(entry)
    else:
        header[name] = rng.choice(VALUES)
    return join_file(header, data)


def rewrite_facts(content, key, rng):
    header, data = split_file(content)
    facts = json.loads(header["__metadata__"][key])
    fact, what = rng.choice([*facts, "unknown"]), rng.randrange(4)
    if what == 0:
        facts.pop(fact, None)
    else:
        facts[fact] = rng.choice(VALUES)
    text = rng.choice(TEXTS) if what == 1 else json.dumps(facts)
    header["__metadata__"] = rng.choice([{key: text}] * 9 + [{}, {"x": text}, text, None])
    return join_file(header, data)


def splice(content, key, rng):
    start, end = sorted(rng.randrange(len(content)) for _ in range(2))
    place = rng.randrange(len(content))
    return content[:place] + content[start:end] + content[place + (end - start) :]


def replace_all(content, key, rng):
    return rng.choice([*FOREIGN, rng.randbytes(rng.randint(0, 4000))])


DAMAGES = (cut, flip, flip_header, spoil_values, rewrite_tensor, rewrite_facts, splice, replace_all)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The content of an intact file of each kind."""
    path = tmp_path_factory.mktemp("whole") / "file"
    whole = {"style": sample_style(), "resume": cancelled(small_config(rank=1), 2).state}
    contents = {}
    for kind, intact in whole.items():
        KINDS[kind][2](intact, path)
        contents[kind] = path.read_bytes()
    return contents


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("read_as", KINDS)
@given(st.sampled_from(DAMAGES), st.sampled_from([*KINDS]), st.integers(0))
def test_damaged_files_are_refused_in_a_sentence_or_load_as_saved(
    tmp_path_factory, whole, read_as, damage, kind, seed
):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    again = path.with_name("again.safetensors")
    content = damage(whole[kind], KINDS[kind][0], Random(seed))
    path.write_bytes(content)
    before = path.stat().st_mtime_ns
    _, load, save = KINDS[read_as]
    try:
        loaded = load(path)
        save(loaded, again)
        first = again.read_bytes()
        save(load(again), again)
        assert again.read_bytes() == first
    except ACFunError as error:
        assert "\n" not in str(error)
        assert len(str(error)) <= 1000
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_load(tmp_path, whole, kind):
    path = tmp_path / "whole.safetensors"
    path.write_bytes(whole[kind])
    KINDS[kind][2](KINDS[kind][1](path), path)
    assert path.read_bytes() == whole[kind]
