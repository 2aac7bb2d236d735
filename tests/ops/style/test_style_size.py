"""How large the styles of full-size models are: the usual ones, and the largest that are legal."""

from dataclasses import replace

import pytest
import torch
from tiny_styles import FACTS
from tiny_training import Recorder, run, small_config

from acfun_ops.method.abstract_fusion import AbstractFusion
from acfun_ops.method.concrete_fusion import ConcreteFusion
from acfun_ops.model_families import FAMILIES
from acfun_ops.style.style import Style
from acfun_ops.style.style_file import load_style, save_style
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.events import WarningEvent
from acfun_ops.training.training_images import MAX_STYLE_PICTURES, fewer_tokens

ENCODERS = {"sd1": {"l": 768}, "sdxl": {"l": 768, "g": 1280}}
WIDTHS = {  # Of the ResBlocks of the encoder, the middle and the decoder.
    "sd1": ([320] * 2 + [640] * 2 + [1280] * 4, [1280] * 6 + [640] * 3 + [320] * 3),
    "sdxl": ([320] * 2 + [640] * 2 + [1280] * 2, [1280] * 3 + [640] * 3 + [320] * 3),
}
LARGEST = {
    option: int(TrainConfig.__dataclass_fields__[option].metadata["high"])
    for option in ("rank", "layers", "heads")
}
WIDEST = (257, 1664)  # The tokens of ViT-bigG/14, the widest that ComfyUI knows.


def zeros(module):
    state = module.state_dict()
    return {name: torch.zeros(tensor.shape, dtype=torch.float16) for name, tensor in state.items()}


def full_size_style(family, pictures, tokens=(257, 1024), rank=32, layers=2, heads=8):
    first, last = WIDTHS[family]
    blocks = {f"input_blocks.{i}.0": c for i, c in enumerate(first)}
    blocks |= {"middle_block.0": 1280, "middle_block.2": 1280}
    blocks |= {f"output_blocks.{i}.0": c for i, c in enumerate(last)}
    width = sum(ENCODERS[family].values())
    with torch.device("meta"):
        fusion = AbstractFusion(width, tokens[1], layers, heads)
        inserts = {block: ConcreteFusion(c, rank, "std") for block, c in blocks.items()}
    return Style(
        facts=replace(FACTS, family=family, heads=heads, statistics="std"),
        abstract=zeros(fusion),
        vectors={n: torch.zeros(d, dtype=torch.float16) for n, d in ENCODERS[family].items()},
        style_tokens=fewer_tokens(torch.zeros(pictures, *tokens)).half(),
        concrete={block: zeros(insert) for block, insert in inserts.items()},
    )


@pytest.mark.parametrize("pictures", range(1, MAX_STYLE_PICTURES + 1))
@pytest.mark.parametrize("family", ENCODERS)
def test_a_usual_style_is_as_small_as_promised(tmp_path, family, pictures):
    style, limit = full_size_style(family, pictures), FAMILIES[family].usual_bytes
    assert limit * 0.7 < save_style(style, tmp_path / "style.safetensors") < limit
    assert load_style(tmp_path / "style.safetensors").facts == style.facts


@pytest.mark.parametrize("family", ENCODERS)
def test_the_largest_style_that_can_be_trained_is_saved_and_loaded(tmp_path, family):
    style = full_size_style(family, MAX_STYLE_PICTURES, WIDEST, **LARGEST)
    assert save_style(style, tmp_path / "style.safetensors") > 7e7
    assert load_style(tmp_path / "style.safetensors").facts == style.facts


def test_a_style_larger_than_promised_is_told_before_the_first_step(monkeypatch):
    size = []

    def told():
        events = Recorder()
        style = run(small_config(steps=1), on_event=events).style
        size.append(sum(t.numel() * 2 for s in style.concrete.values() for t in s.values()))
        return [e.text for e in events.events[:1] if isinstance(e, WarningEvent)]

    assert told() == []
    monkeypatch.setitem(FAMILIES, "sd1", replace(FAMILIES["sd1"], usual_bytes=size[0]))
    assert told()[0].startswith("The style will be 0 MB large.")
