"""No file, however damaged or hostile, does more to load_style than raise ACFunError."""

import errno
import io
import json
import os
import pickle
import struct
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from style_refusals import WHOLE, assert_usable, load_or_refuse, refuse
from tiny_styles import FACTS, join_file, sample_style, split_file, tensors_of

from acfun_ops import file_io as whole_files
from acfun_ops.errors import ACFunError
from acfun_ops.style import style_file
from acfun_ops.style.style import METADATA_KEY
from acfun_ops.style.style_file import load_style

TENSORS = tensors_of(sample_style())
HEADER_BYTES = 8 + struct.unpack("<Q", WHOLE[:8])[0]


def with_tensors(**changed):
    """Return the sample's file with tensors replaced, or left out where None."""
    tensors = {k: v.clone() for k, v in (TENSORS | changed).items() if v is not None}
    facts = json.dumps(asdict(FACTS), sort_keys=True)
    return save(tensors, {METADATA_KEY: facts})


def test_undamaged_file_loads(style_path):
    style_path.write_bytes(with_tensors())
    assert_usable(load_style(style_path))


@given(length=st.integers(0, len(WHOLE) - 1))
def test_truncated_file_is_refused(style_path, length):
    refuse(style_path, WHOLE[:length])


@given(tail=st.binary(min_size=1, max_size=64))
def test_longer_file_is_refused(style_path, tail):
    refuse(style_path, WHOLE + tail)


@given(
    flips=st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), min_size=1, max_size=8
    )
)
def test_flipped_bytes_are_refused_or_harmless(style_path, flips):
    content = bytearray(WHOLE)
    for place, mask in flips:
        content[place] ^= mask
    load_or_refuse(style_path, bytes(content))


@given(place=st.integers(0, HEADER_BYTES - 1), mask=st.integers(1, 255))
def test_flipped_header_is_refused_or_harmless(style_path, place, mask):
    content = bytearray(WHOLE)
    content[place] ^= mask
    load_or_refuse(style_path, bytes(content))


@given(length=st.one_of(st.integers(0, 2**64 - 1), st.integers(0, len(WHOLE))))
def test_other_header_lengths_are_refused(style_path, length):
    if length != HEADER_BYTES - 8:
        refuse(style_path, struct.pack("<Q", length) + WHOLE[8:])


@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(style_path, content):
    refuse(style_path, content)


SIDES = st.one_of(st.integers(0, 6), st.sampled_from([16, 4096, 2**31, 2**40, 2**63, 2**64 - 1]))


@given(name=st.sampled_from(sorted(TENSORS)), shape=st.lists(SIDES, max_size=4))
def test_absurd_shapes_in_the_header_are_refused(style_path, name, shape):
    header, data = split_file(WHOLE)
    if shape != header[name]["shape"]:
        start = header[name]["data_offsets"][0]
        count = 0 if 0 in shape else 1
        header[name] |= {"shape": shape, "data_offsets": [start, start + 2 * count]}
        refuse(style_path, join_file(header, data))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@given(
    name=st.sampled_from(sorted(TENSORS)), shape=st.lists(st.integers(0, 9), max_size=3).map(tuple)
)
def test_whole_files_with_other_shapes_are_refused_or_harmless(style_path, name, shape):
    load_or_refuse(style_path, with_tensors(**{name: torch.zeros(shape).half()}))


@pytest.mark.parametrize("side", [2**20, 2**40])
def test_empty_tensors_of_absurd_width_are_refused(side, style_path):
    header, data = split_file(WHOLE)
    name = "afun.layers.0.query.weight"
    start, end = header.pop(name)["data_offsets"]
    for entry in header.values():
        if "data_offsets" in entry and entry["data_offsets"][0] >= end:
            entry["data_offsets"] = [offset - (end - start) for offset in entry["data_offsets"]]
    header[name] = {"dtype": "F16", "shape": [0, side], "data_offsets": [start, start]}
    refuse(style_path, join_file(header, data[:start] + data[end:]), "do not fit together|whole")


@pytest.mark.parametrize("name", sorted(TENSORS))
def test_every_tensor_is_needed(name, style_path):
    if name not in ("token.l", "token.g"):  # either encoder alone makes another family's style
        refuse(style_path, with_tensors(**{name: None}))


@pytest.mark.parametrize("kind", ["afun.", "token.", "cfun."])
def test_every_part_is_needed(kind, style_path):
    missing = dict.fromkeys((name for name in TENSORS if name.startswith(kind)), None)
    refuse(style_path, with_tensors(**missing), "parts of the style are missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["style_tokens", "token.l", "cfun.middle_block.0.down.bias"])
def test_values_that_are_not_finite_are_refused(name, value, style_path):
    tensor = TENSORS[name].clone()
    tensor.view(-1)[-1] = value
    refuse(style_path, with_tensors(**{name: tensor}), "not finite half-precision numbers")


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.int8, torch.bool, torch.float8_e4m3fn]
)
def test_other_number_types_are_refused(dtype, style_path):
    tensor = torch.zeros_like(TENSORS["style_tokens"]).to(dtype)
    refuse(style_path, with_tensors(style_tokens=tensor), "not finite half-precision numbers")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lora_unet_down.weight", "holds a tensor 'lora_unet_down.weight' that no style has"),
        ("cfun.x", "holds a tensor 'cfun.x'"),
        ("x" * 500, "holds a tensor '" + "x" * 60 + "' that"),
        ("cfun.middle_block.0.extra.weight", "an insert is incomplete"),
        ("afun.layers.9.query.weight", "do not fit together"),
        ("afun.nonsense", "do not fit together"),
    ],
)
def test_tensors_that_no_style_has_are_refused(name, reason, style_path):
    refuse(style_path, with_tensors(**{name: torch.zeros(2).half()}), reason)


def test_foreign_block_names_are_refused_by_file_name(style_path):
    tensors = {name.replace("middle_block", "mid_block"): t for name, t in TENSORS.items()}
    content = save(tensors, {METADATA_KEY: json.dumps(asdict(FACTS))})
    refuse(style_path, content, "'mid_block.0' is no block name")


def test_inserts_without_channels_are_refused(style_path):
    empty = {
        name: torch.zeros([0] * tensor.ndim).half() if name.startswith("cfun.") else tensor
        for name, tensor in TENSORS.items()
    }
    content = save(empty, {METADATA_KEY: json.dumps(asdict(FACTS))})
    refuse(style_path, content, "do not fit together")


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"acfun_training": "{}"}])
def test_foreign_safetensors_are_refused(metadata, style_path):
    content = save({"lora.up.weight": torch.zeros(2, 2)}, metadata)
    refuse(style_path, content, "not made by this pack.*load another file")


class Bomb:
    """Sets an environment variable when it is unpickled."""

    def __reduce__(self):
        return exec, ("import os; os.environ['ACFUN_TEST_BOMB'] = 'went off'",)


@pytest.mark.parametrize("as_torch", [False, True])
def test_renamed_pickle_is_refused_and_not_run(as_torch, style_path, monkeypatch):
    monkeypatch.delenv("ACFUN_TEST_BOMB", raising=False)
    content = io.BytesIO()
    (torch.save if as_torch else pickle.dump)({"weights": Bomb()}, content)
    refuse(style_path, content.getvalue())
    assert "ACFUN_TEST_BOMB" not in os.environ
    content.seek(0)
    torch.load(content, weights_only=False) if as_torch else pickle.load(content)
    assert os.environ.pop("ACFUN_TEST_BOMB") == "went off"


def test_missing_file_and_folder_are_refused_by_name(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    for name in ("folder.safetensors", "absent.safetensors", "file/below.safetensors"):
        with pytest.raises(ACFunError, match=rf"^{Path(name).name} .*Choose another file"):
            load_style(tmp_path / name)


def test_empty_file_is_refused(style_path):
    refuse(style_path, b"", "no whole safetensors file")


def test_file_that_may_not_be_read_is_refused(style_path, monkeypatch):
    def forbid(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(whole_files, "safe_open", forbid)
    refuse(style_path, WHOLE, "could not be read: Permission denied")


def test_file_of_absurd_size_is_refused(style_path, monkeypatch):
    monkeypatch.setattr(style_file, "STYLE_FILE", replace(style_file.STYLE_FILE, max_bytes=10))
    refuse(style_path, WHOLE, "MB")


def test_file_of_absurdly_many_tensors_is_refused(style_path, monkeypatch):
    monkeypatch.setattr(whole_files, "MAX_TENSORS", 10)
    refuse(style_path, WHOLE, "pack")
