"""CFun's adapters on a U-Net's blocks: hooks, masks, and strengths by part."""

import pytest
import torch
from tiny_styles import CHANNELS, randomized, untrained_insert
from torch import nn

from acfun_ops.errors import ACFunError
from acfun_ops.method.concrete_fusion import FoldedFusion
from acfun_ops.method.injection import (
    BlockMask,
    PartStrengths,
    attach_adapters,
    fold_adapters,
    parts_of,
)


def trained():
    return randomized(untrained_insert())


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ("input_blocks.1.0", "encoder"),
        ("middle_block.2", "middle"),
        ("output_blocks.11.0", "decoder"),
    ],
)
def test_block_names_tell_their_part(block, part):
    assert parts_of([block]) == {block: part}
    strengths = PartStrengths(encoder=0.1, middle=0.2, decoder=0.3)
    assert strengths.block_strengths([block]) == {block: getattr(strengths, part)}


def test_the_early_half_of_a_transformer_is_structure_and_the_late_half_strokes():
    single = [f"single_blocks.{number}" for number in (10, 9, 2, 1, 0)]
    parts = parts_of([*single, "double_blocks.1", "double_blocks.0"])
    early = {block for block, part in parts.items() if part == "decoder"}
    assert early == {"double_blocks.0", "double_blocks.1", "single_blocks.0", "single_blocks.1"}
    assert {parts[block] for block in parts.keys() - early} == {"encoder"}


@pytest.mark.parametrize(
    "block",
    [
        "",
        "down_blocks.0",
        "input_blocksx.1",
        "Input_blocks.1",
        "input_blocks.x.0",
        "middle_block",
        "layers",
    ],
)
def test_foreign_block_names_are_refused(block):
    with pytest.raises(ACFunError, match=f"'{block}' is no block name; expected"):
        parts_of([block])


def test_part_strengths_scale():
    strengths = PartStrengths(encoder=1.0, middle=0.0, decoder=-2.0)
    assert strengths.scale(0.5) == PartStrengths(encoder=0.5, middle=0.0, decoder=-1.0)


BLOCKS = {"input_blocks.1.0": "encoder", "middle_block.0": "middle", "output_blocks.0.0": "decoder"}


@pytest.fixture
def modules(generator):
    layers = {block: nn.Conv2d(CHANNELS, CHANNELS, 1) for block in BLOCKS}
    return {block: randomized(layer, seed) for seed, (block, layer) in enumerate(layers.items())}


@pytest.fixture
def picture(generator):
    return torch.randn(1, CHANNELS, 8, 8, generator=generator)


@torch.no_grad()
def outputs(modules, picture):
    return {block: module(picture) for block, module in modules.items()}


def fold(inserts, **strengths):
    by_block = PartStrengths(**strengths).block_strengths(inserts)
    return fold_adapters(inserts, by_block, torch.device("cpu"))


def hook_counts(modules):
    return [len(module._forward_hooks) for module in modules.values()]


def test_attached_untrained_inserts_change_nothing(modules, picture):
    plain = outputs(modules, picture)
    with attach_adapters({block: untrained_insert() for block in BLOCKS}, modules):
        hooked = outputs(modules, picture)
    assert all(torch.equal(plain[block], hooked[block]) for block in BLOCKS)


@pytest.mark.parametrize("part", ["encoder", "middle", "decoder"])
def test_part_strength_zero_leaves_that_part_alone(part, modules, picture):
    plain = outputs(modules, picture)
    with attach_adapters(fold({b: trained() for b in BLOCKS}, **{part: 0.0}), modules):
        hooked = outputs(modules, picture)
    for block, its_part in BLOCKS.items():
        assert torch.equal(plain[block], hooked[block]) == (its_part == part)


def test_each_part_has_its_own_strength(modules, picture):
    plain, inserts = outputs(modules, picture), {block: trained() for block in BLOCKS}
    strengths = {"encoder": 0.2, "middle": 0.5, "decoder": -1.0}
    with attach_adapters(fold(inserts, **strengths), modules):
        hooked = outputs(modules, picture)
    for block, part in BLOCKS.items():
        assert torch.equal(hooked[block], inserts[block](plain[block], strengths[part]))


def test_nested_attachments_compose_and_part_again(modules, picture):
    block = "middle_block.0"
    first, second = trained(), randomized(untrained_insert(), 9)
    plain = outputs(modules, picture)[block]
    with attach_adapters({block: first}, modules):
        with attach_adapters({block: second}, modules):
            both = outputs(modules, picture)[block]
        one = outputs(modules, picture)[block]
    assert torch.equal(both, second(first(plain)))
    assert torch.equal(one, first(plain))
    assert torch.equal(outputs(modules, picture)[block], plain)


def test_hooks_are_gone_after_an_error(modules):
    with pytest.raises(RuntimeError), attach_adapters({b: trained() for b in BLOCKS}, modules):
        assert hook_counts(modules) == [1, 1, 1]
        raise RuntimeError
    assert hook_counts(modules) == [0, 0, 0]


def test_missing_block_is_refused_before_any_hook(modules):
    inserts = {"input_blocks.1.0": trained(), "output_blocks.9.0": trained()}
    message = r"inserts for 2 blocks, but the model lacks output_blocks\.9\.0 \(1 missing\)"
    with pytest.raises(ACFunError, match=message), attach_adapters(inserts, modules):
        pass
    assert hook_counts(modules) == [0, 0, 0]


def test_mask_limits_the_effect_in_space(modules, picture):
    block, mask = "input_blocks.1.0", torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    plain, insert = outputs(modules, picture)[block], trained()
    with attach_adapters({block: FoldedFusion(insert, 0.5)}, modules, BlockMask(mask)):
        masked = outputs(modules, picture)[block]
    assert torch.allclose(masked[..., 5:], plain[..., 5:], atol=1e-5)
    assert torch.allclose(masked[..., :3], insert(plain, 0.5)[..., :3], atol=1e-5)


def test_tokens_are_changed_per_channel_and_refuse_a_mask(generator):
    tokens, insert = torch.randn(2, 9, CHANNELS, generator=generator), trained()
    module = nn.Identity()
    with attach_adapters({"middle_block.1": insert}, {"middle_block.1": module}):
        changed = module(tokens)
    assert torch.equal(changed, insert(tokens.transpose(1, 2)).transpose(1, 2))
    mask = BlockMask(torch.ones(1, 1, 4, 4))
    masked = attach_adapters({"middle_block.1": insert}, {"middle_block.1": module}, mask)
    with masked, pytest.raises(ACFunError, match="attention blocks, where a mask cannot act"):
        module(tokens)


def test_mask_is_resized_once_for_each_size():
    mask = BlockMask(torch.ones(1, 1, 32, 32))
    at = [mask.resize(size, torch.device("cpu")) for size in [(4, 4), (8, 8), (4, 4)]]
    assert at[0] is at[2] and at[1].shape == (1, 1, 8, 8)
