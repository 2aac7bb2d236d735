"""The style's block is the one through which a style comes over best, whatever its place."""

import pytest
import torch
from quality_pairs import drawn_pair

from evaluation.methods import pretraining as module
from evaluation.methods.ip_adapter import new_adapter
from evaluation.methods.pretraining import Trial, blocks, style_block


@pytest.fixture
def trial(backbone):
    styles = torch.stack([drawn_pair(number).style[::2, ::2] for number in range(2)])
    prompts = [backbone.encode_prompt(text, "S*", {}).tokens for text in ("a man", "")]
    length = min(tokens.shape[1] for tokens in prompts)
    man, empty = (tokens[:, :length] for tokens in prompts)
    return Trial(styles, man.expand(2, -1, -1), empty)


def test_blocks_are_those_that_see_the_prompt(backbone):
    names = blocks(backbone)
    assert len(names) == len(set(names)) == len(backbone.unet.attn_processors) / 2
    assert {name.split("_")[0] for name in names} == {"down", "mid", "up"}
    assert all(
        hasattr(backbone.unet.get_submodule(name[:-1]), "transformer_blocks") for name in names
    )


@pytest.mark.parametrize("best", [0, 2])
def test_the_block_of_the_best_figures_is_found_and_said(
    best, backbone, trial, tmp_path, monkeypatch
):
    names = blocks(backbone)
    monkeypatch.setattr(
        module, "_try_block", lambda b, a, name, t: [float(name != names[best]), 0.5, 0.1]
    )
    log = tmp_path / "log"
    assert style_block(backbone, new_adapter(backbone, 0), trial, log) == best
    lines = log.read_text().splitlines()
    assert len(lines) == len(names)
    assert lines[best].startswith(names[best])


def test_each_block_is_tried_alone(backbone, trial, monkeypatch):
    monkeypatch.setattr(module, "TRIAL_STEPS", 2)
    adapter = new_adapter(backbone, 0)
    found = [module._try_block(backbone, adapter, name, trial) for name in blocks(backbone)]
    assert len({tuple(figures) for figures in found}) == len(found)
    assert found[0] == module._try_block(backbone, adapter, blocks(backbone)[0], trial)
