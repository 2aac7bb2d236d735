"""The training state's file: round trip, and what is refused."""

import json
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from tiny_styles import join_file, sample_style, split_file

from acfun_ops.errors import ACFunError
from acfun_ops.style.style_file import load_style, save_style
from acfun_ops.training.checkpoint import STATE_FILE, TrainState, load_state, save_state

NAME = "0123456789abcdef.safetensors"


def sample_state():
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    return TrainState(
        run="0123456789abcdef",
        step=7,
        weights={"abstract.layers.0.out.weight": draw(3, 4), "vectors.l": draw(4)},
        moments={"vectors.l.exp_avg": draw(4), "vectors.l.step": torch.tensor(2.0)},
        generator=generator.get_state(),
        losses=draw(7).double() / 3,
        scaler={"scale": 1024.0, "growth_factor": 2.0, "_growth_tracker": 5},
        kept={"imagery": draw(1, 4, 8, 8), "prompt": draw(1, 8, 4)},
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / NAME


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / NAME
    save_state(sample_state(), path)
    return path.read_bytes()


def assert_same(one, other):
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    else:
        assert one == other


def test_round_trip_keeps_everything(path):
    save_state(sample_state(), path)
    loaded = load_state(path)
    for field in fields(TrainState):
        assert_same(getattr(sample_state(), field.name), getattr(loaded, field.name))


def test_round_trip_keeps_views_and_empty_parts(path):
    weight = torch.arange(12.0).view(3, 4)
    empty = {"moments": {}, "scaler": {}, "kept": {}, "losses": weight[0, :0]}
    state = replace(sample_state(), weights={"w": weight.T}, **empty)
    save_state(state, path)
    loaded = load_state(path)
    assert_same(loaded.weights, {"w": weight.T})
    assert (loaded.moments, loaded.scaler, loaded.kept, len(loaded.losses)) == ({}, {}, {}, 0)


def test_same_state_gives_same_bytes(path, whole):
    save_state(sample_state(), path)
    assert path.read_bytes() == whole


@given(data=st.data())
def test_damaged_state_is_refused_or_read(tmp_path_factory, whole, data):
    path = tmp_path_factory.getbasetemp() / NAME
    content = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for place in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=4)):
        content[place : place + 1] = b"\xff"
    path.write_bytes(bytes(content))
    try:
        state = load_state(path)
    except ACFunError as error:
        assert str(error).startswith(NAME)
        return
    assert isinstance(state, TrainState)


@pytest.mark.parametrize(
    "facts",
    [
        {"step": 1, "scaler": {}},
        {"run": 5, "step": 1, "scaler": {}},
        {"run": "r", "step": "1", "scaler": {}},
        {"run": "r", "step": 1, "scaler": []},
    ],
)
def test_state_with_missing_facts_is_refused(facts, path, whole):
    header, data = split_file(whole)
    header["__metadata__"] = {STATE_FILE.key: json.dumps(facts)}
    path.write_bytes(join_file(header, data))
    with pytest.raises(ACFunError, match=f"{NAME} is no usable ACFun training state: parts are"):
        load_state(path)


@pytest.mark.parametrize("missing", ["generator", "losses"])
def test_state_with_missing_tensors_is_refused(missing, path):
    tensors = {"generator": torch.zeros(2), "losses": torch.zeros(2)}
    del tensors[missing]
    facts = {"run": "r", "step": 1, "scaler": {}}
    path.write_bytes(save(tensors, {STATE_FILE.key: json.dumps(facts)}))
    with pytest.raises(ACFunError, match=r"parts are missing\. Delete it"):
        load_state(path)


def test_styles_and_states_are_told_apart(path):
    save_style(sample_style(), path)
    with pytest.raises(ACFunError, match=f"{NAME} is no usable ACFun training state"):
        load_state(path)
    save_state(sample_state(), path)
    with pytest.raises(ACFunError, match=f"{NAME} is no usable ACFun style"):
        load_style(path)


def test_missing_state_is_refused_by_name(path):
    with pytest.raises(ACFunError, match=f"{NAME} could not be read: No such file"):
        load_state(path)


def test_state_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ACFunError, match="The training state could not be written to"):
        save_state(sample_state(), tmp_path / "file" / NAME)
