"""The style file: round trip, equal bytes, size, and what saving leaves behind when it fails."""

import errno
import hashlib
import os
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import tiny_styles
import torch
from tiny_styles import FACTS, new_trainables, sample_style, tensors_of
from torch.utils._python_dispatch import TorchDispatchMode

from acfun_ops.errors import ACFunError
from acfun_ops.file_io import check_can_be_written
from acfun_ops.style import style_file
from acfun_ops.style.style import style_bytes
from acfun_ops.style.style_file import load_style, save_style
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.trainable_style import TrainableStyle

ROOT = Path(__file__).resolve().parents[3]

# The ResBlocks of SD1.x (and SD2.x) and of SDXL, by canonical name.
SD1_WIDTHS = {
    "input_blocks.1.0": 320,
    "input_blocks.2.0": 320,
    "input_blocks.4.0": 640,
    "input_blocks.5.0": 640,
    "input_blocks.7.0": 1280,
    "input_blocks.8.0": 1280,
    "input_blocks.10.0": 1280,
    "input_blocks.11.0": 1280,
    "middle_block.0": 1280,
    "middle_block.2": 1280,
    "output_blocks.0.0": 1280,
    "output_blocks.1.0": 1280,
    "output_blocks.2.0": 1280,
    "output_blocks.3.0": 1280,
    "output_blocks.4.0": 1280,
    "output_blocks.5.0": 1280,
    "output_blocks.6.0": 640,
    "output_blocks.7.0": 640,
    "output_blocks.8.0": 640,
    "output_blocks.9.0": 320,
    "output_blocks.10.0": 320,
    "output_blocks.11.0": 320,
}
SDXL_WIDTHS = {
    "input_blocks.1.0": 320,
    "input_blocks.2.0": 320,
    "input_blocks.4.0": 640,
    "input_blocks.5.0": 640,
    "input_blocks.7.0": 1280,
    "input_blocks.8.0": 1280,
    "middle_block.0": 1280,
    "middle_block.2": 1280,
    "output_blocks.0.0": 1280,
    "output_blocks.1.0": 1280,
    "output_blocks.2.0": 1280,
    "output_blocks.3.0": 640,
    "output_blocks.4.0": 640,
    "output_blocks.5.0": 640,
    "output_blocks.6.0": 320,
    "output_blocks.7.0": 320,
    "output_blocks.8.0": 320,
}


def test_sample_facts_are_no_defaults():
    defaults = TrainConfig()
    for field in fields(FACTS):
        if field.name != "format" and hasattr(defaults, field.name):
            assert getattr(FACTS, field.name) != getattr(defaults, field.name), field.name
    assert all(value for name, value in asdict(FACTS).items() if name != "shares")  # Of blends.


def test_round_trip_keeps_every_fact_and_tensor(tmp_path):
    style, path = sample_style(), tmp_path / "style.safetensors"
    size = save_style(style, path)
    loaded = load_style(path)
    assert size == path.stat().st_size
    assert loaded.facts == style.facts == FACTS
    before, after = tensors_of(style), tensors_of(loaded)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert style_bytes(loaded) == path.read_bytes()
    assert loaded.digest == style.digest


def test_everything_is_half_precision_on_disk(tmp_path):
    save_style(sample_style(), tmp_path / "style.safetensors")
    loaded = load_style(tmp_path / "style.safetensors")
    assert {tensor.dtype for tensor in tensors_of(loaded).values()} == {torch.float16}


def test_widths_are_read_from_the_weights():
    style = sample_style()
    assert style.context_width == tiny_styles.TEXT_WIDTH
    assert style.block_widths == tiny_styles.WIDTHS


@pytest.mark.parametrize("inference", [False, True])
def test_loaded_parts_act_as_the_trained_ones(inference, generator, tmp_path):
    trainables = tiny_styles.randomized(new_trainables()).half().float()
    tokens = torch.randn(5, tiny_styles.IMAGE_WIDTH, generator=generator).half().float()
    text = torch.randn(1, 3, tiny_styles.TEXT_WIDTH, generator=generator)
    features = torch.randn(2, 6, 4, 4, generator=generator)
    save_style(trainables.to_style(FACTS, tokens), tmp_path / "style.safetensors")
    with torch.inference_mode(inference):
        style = load_style(tmp_path / "style.safetensors")
        fusion, inserts = style.abstract_fusion(), style.inserts()
        fused = fusion(text, style.style_tokens)
        changed = inserts["output_blocks.2.0"](features)
    assert torch.equal(fused, trainables.abstract(text, tokens))
    assert torch.equal(changed, trainables.inserts()["output_blocks.2.0"](features))
    assert not any(p.requires_grad for m in (fusion, *inserts.values()) for p in m.parameters())


def test_building_the_parts_leaves_global_randomness_alone():
    style, before = sample_style(), torch.get_rng_state()
    style.abstract_fusion()
    style.inserts()
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_styles_give_equal_bytes_and_others_do_not():
    style = sample_style()
    reordered = replace(
        style,
        facts=replace(FACTS, settings=dict(reversed(FACTS.settings.items()))),
        abstract=dict(reversed(style.abstract.items())),
        vectors=dict(reversed(style.vectors.items())),
        concrete={b: dict(reversed(s.items())) for b, s in reversed(style.concrete.items())},
    )
    assert style_bytes(reordered) == style_bytes(style) == style_bytes(sample_style())
    assert style_bytes(sample_style(seed=1)) != style_bytes(style)
    assert style_bytes(sample_style(prompt="another S* prompt")) != style_bytes(style)


@pytest.mark.slow
def test_another_process_writes_equal_bytes():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345"}
    command = [sys.executable, tiny_styles.__file__]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == hashlib.sha256(style_bytes(sample_style())).hexdigest()


@pytest.mark.parametrize(
    ("widths", "context", "count", "budget"),
    [(SD1_WIDTHS, 768, 22, 8_000_000), (SDXL_WIDTHS, 2048, 17, 20_000_000)],
    ids=["sd1", "sdxl"],
)
def test_file_stays_within_its_budget(widths, context, count, budget, tmp_path):
    assert len(widths) == count
    vectors = {"l": torch.zeros(768)} | ({"g": torch.zeros(1280)} if context == 2048 else {})
    trainables = TrainableStyle(
        TrainConfig(),
        text_dim=context,
        image_dim=1024,
        widths=widths,
        vectors=vectors,
        generator=torch.Generator(),
    )
    facts = replace(FACTS, heads=8, statistics="std")
    style = trainables.to_style(facts, torch.zeros(257, 1024))
    size = save_style(style, tmp_path / "style.safetensors")
    assert budget / 2 < size <= budget
    assert load_style(tmp_path / "style.safetensors").block_widths == widths


class LargestTensor(TorchDispatchMode):
    """Measures the largest tensor that is really there."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
                self.numel = max(self.numel, tensor.numel())
        return result


def test_wide_shapes_are_refused_before_memory_is_taken(tmp_path):
    style = sample_style()
    abstract = dict(style.abstract) | {"layers.0.query.weight": torch.zeros(1, 4096).half()}
    path = tmp_path / "wide.safetensors"
    path.write_bytes(style_bytes(replace(style, abstract=abstract)))
    with LargestTensor() as largest, pytest.raises(ACFunError, match=r"wide\.safetensors .* fit"):
        load_style(path)
    assert largest.numel <= 4 * 4096


def test_saving_makes_the_folder_and_overwrites(tmp_path):
    path = tmp_path / "new" / "deeper" / "style.safetensors"
    save_style(sample_style(), path)
    save_style(sample_style(seed=1), path)
    assert style_bytes(load_style(path)) == style_bytes(sample_style(seed=1))
    assert [p.name for p in path.parent.iterdir()] == ["style.safetensors"]


def failing(code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("owner", "name", "code"),
    [
        pytest.param(Path, "open", errno.EACCES, id="folder not writable"),
        pytest.param(Path, "open", errno.EROFS, id="read-only disk"),
        pytest.param(os, "fsync", errno.ENOSPC, id="disk full"),
        pytest.param(os, "fsync", errno.EIO, id="disk broken"),
        pytest.param(Path, "replace", errno.EPERM, id="file in use"),
        pytest.param(Path, "mkdir", errno.EACCES, id="no folder"),
    ],
)
def test_failed_save_says_why_and_leaves_the_old_file(owner, name, code, tmp_path, monkeypatch):
    path = tmp_path / "style.safetensors"
    save_style(sample_style(), path)
    before = path.read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(owner, name, failing(code))
        with pytest.raises(ACFunError, match=rf"style\.safetensors: {os.strerror(code)}.*retry"):
            save_style(sample_style(seed=1), path)
    assert [p.name for p in tmp_path.iterdir()] == ["style.safetensors"]
    assert path.read_bytes() == before


def test_saving_below_a_file_or_over_a_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "style.safetensors", tmp_path / "folder"):
        with pytest.raises(ACFunError, match=r"could not be written to .* retry"):
            save_style(sample_style(), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_mount_that_knows_no_fsync_takes_the_style(code, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(code))
    save_style(sample_style(), tmp_path / "style.safetensors")
    assert style_bytes(load_style(tmp_path / "style.safetensors")) == style_bytes(sample_style())


def test_a_name_as_long_as_a_name_can_be_is_written(tmp_path):
    path = tmp_path / f"{'画' * 81}.safetensors"  # 255 bytes.
    check_can_be_written(path)
    save_style(sample_style(), path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OSError, match="too long"):
        check_can_be_written(path.with_name(f"x{path.name}"))


def test_trying_a_place_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    check_can_be_written(tmp_path / "new" / "deeper" / "style.safetensors")
    for path in (tmp_path, tmp_path / "file" / "style.safetensors"):
        with pytest.raises(OSError, match=r"directory"):
            check_can_be_written(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_drive_that_is_not_there_is_no_place(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(FileNotFoundError):
        check_can_be_written(Path("/share/styles/style.safetensors"))


def test_what_loading_would_refuse_is_not_saved(tmp_path, monkeypatch):
    style, path = sample_style(), tmp_path / "style.safetensors"
    endless = replace(style, style_tokens=torch.full((2, 8), float("inf")).half())
    with pytest.raises(ACFunError, match=r"could not be loaded again: it holds values that are"):
        save_style(endless, path)
    small = replace(style_file.STYLE_FILE, max_bytes=10)
    monkeypatch.setattr(style_file, "STYLE_FILE", small)
    with pytest.raises(ACFunError, match=r"loaded again: it is 0 MB large\. Train with fewer"):
        save_style(style, path)
    assert list(tmp_path.iterdir()) == []
