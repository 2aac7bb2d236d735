"""CFun: statistics and affine against naive loops, identity, and hooking onto blocks."""

import math

import pytest
import torch
from tiny_styles import randomized
from torch import nn

from acfun_ops.errors import ACFunError
from acfun_ops.method.concrete_fusion import ConcreteFusion, channel_statistics
from acfun_ops.method.injection import PartStrengths, attach_adapters, part_of

CHANNELS = 6


def untrained(statistics="std", channels=CHANNELS):
    insert = ConcreteFusion(channels, 3, statistics)
    insert.reset_parameters(torch.Generator().manual_seed(1))
    return insert


def trained(statistics="std", channels=CHANNELS):
    return randomized(untrained(statistics, channels))


@pytest.fixture(params=[(2, CHANNELS, 4, 5), (2, CHANNELS, 9)], ids=["bchw", "bcn"])
def features(request, generator):
    return torch.randn(request.param, generator=generator) * 2 + 1


def naive_statistics(features, statistics):
    """One row per sample: [mean of each channel, then] its standard deviation."""
    rows = []
    for sample in features.tolist():
        means, deviations = [], []
        for channel in sample:
            values = torch.tensor(channel).flatten().tolist()
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
            means.append(mean)
            deviations.append(math.sqrt(variance))
        rows.append(deviations if statistics == "std" else means + deviations)
    return torch.tensor(rows)


def naive_insert(insert, features, strength):
    """CFun(x) = gamma(sigma(x)) x + beta(sigma(x)), one channel at a time."""
    insert, result = insert.requires_grad_(False), features.clone()
    for sample, row in enumerate(naive_statistics(features, insert.statistics)):
        hidden = [
            float((weight * row).sum() + bias)
            for weight, bias in zip(insert.down.weight, insert.down.bias, strict=True)
        ]
        hidden = torch.tensor([x / (1 + math.exp(-x)) for x in hidden])
        for channel in range(features.shape[1]):
            scale = (insert.scale.weight[channel] * hidden).sum() + insert.scale.bias[channel]
            shift = (insert.shift.weight[channel] * hidden).sum() + insert.shift.bias[channel]
            gamma, beta = 1 + strength * scale, strength * shift
            result[sample, channel] = gamma * features[sample, channel] + beta
    return result


@pytest.mark.parametrize("statistics", ["std", "mean_std"])
def test_statistics_equal_a_naive_loop(statistics, features):
    result = channel_statistics(features, statistics)
    assert result.shape == (2, CHANNELS * (1 if statistics == "std" else 2))
    assert torch.allclose(result, naive_statistics(features, statistics), atol=1e-5)


@pytest.mark.parametrize("statistics", ["std", "mean_std"])
@pytest.mark.parametrize("strength", [1.0, 0.3, -1.0])
def test_insert_equals_a_naive_loop(statistics, strength, features):
    insert = trained(statistics)
    expected = naive_insert(insert, features, strength)
    assert torch.allclose(insert(features, strength), expected, atol=1e-4)


def test_only_mean_std_sees_the_mean(features):
    moved = features + 3
    assert torch.allclose(
        channel_statistics(moved, "std"), channel_statistics(features, "std"), atol=1e-4
    )
    assert not torch.allclose(
        channel_statistics(moved, "mean_std"), channel_statistics(features, "mean_std")
    )


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_flat_features_give_finite_gradients(constant):
    flat = torch.full((1, CHANNELS, 4, 4), constant, requires_grad=True)
    trained()(flat).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_new_insert_is_identity_without_being_reset(features):
    assert torch.equal(ConcreteFusion(CHANNELS)(features), features)


@pytest.mark.parametrize("strength", [1.0, 0.3, -2.0])
def test_untrained_insert_is_identity(strength, features):
    assert torch.equal(untrained()(features, strength), features)


@pytest.mark.parametrize("strength", [1.0, 0.3, -2.0])
def test_trained_insert_changes_features(strength, features):
    assert not torch.allclose(trained()(features, strength), features, atol=1e-2)


def test_strength_zero_returns_the_same_object(features):
    assert trained()(features, 0) is features
    assert trained()(features, 0.0) is features


def test_samples_do_not_mix(features):
    insert = trained()
    assert torch.allclose(insert(features)[1:], insert(features[1:]), atol=1e-5)


def test_place_of_a_pixel_does_not_matter(features):
    insert = trained()
    assert torch.allclose(insert(features.flip(-1)), insert(features).flip(-1), atol=1e-5)


def test_strength_may_be_a_map(generator):
    features = torch.randn(2, CHANNELS, 4, 4, generator=generator)
    strength = torch.zeros(1, 1, 4, 4)
    strength[..., :2] = 0.5
    insert = trained()
    changed = insert(features, strength)
    assert torch.equal(changed[..., 2:], features[..., 2:])
    assert torch.allclose(changed[..., :2], insert(features, 0.5)[..., :2], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sigma_is_float32_whatever_the_features_are(dtype, features):
    loud = features.to(dtype) * 300  # its variance is beyond float16
    with torch.autocast("cpu", dtype):
        sigma, changed = channel_statistics(loud, "std"), trained()(features.to(dtype))
    assert torch.allclose(sigma, naive_statistics(loud.float(), "std"), rtol=1e-4)
    assert sigma.dtype == torch.float32
    assert changed.dtype == dtype
    exact = trained()(features.to(dtype).float())
    assert torch.allclose(changed.float(), exact, rtol=0.02, atol=0.1)


def test_other_channels_are_refused():
    with pytest.raises(ACFunError, match=r"6 channels wide, the block 5\. Apply the style"):
        trained()(torch.zeros(1, 5, 2, 2))


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ("input_blocks.1.0", "encoder"),
        ("middle_block.2", "middle"),
        ("output_blocks.11.0", "decoder"),
    ],
)
def test_block_names_tell_their_part(block, part):
    assert part_of(block) == part
    strengths = PartStrengths(encoder=0.1, middle=0.2, decoder=0.3)
    assert strengths.get(block) == getattr(strengths, part)


@pytest.mark.parametrize(
    "block",
    ["", "down_blocks.0", "input_blocksx.1", "Input_blocks.1", "input_blocks.x.0", "middle_block"],
)
def test_foreign_block_names_are_refused(block):
    with pytest.raises(ACFunError, match=f"'{block}' is no U-Net block name; expected"):
        part_of(block)


def test_part_strengths_scale_and_tell_whether_they_act():
    strengths = PartStrengths(encoder=1.0, middle=0.0, decoder=-2.0)
    assert strengths.scale(0.5) == PartStrengths(encoder=0.5, middle=0.0, decoder=-1.0)
    assert strengths.any()
    assert not strengths.scale(0).any()


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


def hook_counts(modules):
    return [len(module._forward_hooks) for module in modules.values()]


def test_attached_untrained_inserts_change_nothing(modules, picture):
    plain = outputs(modules, picture)
    with attach_adapters({block: untrained() for block in BLOCKS}, modules):
        hooked = outputs(modules, picture)
    assert all(torch.equal(plain[block], hooked[block]) for block in BLOCKS)


@pytest.mark.parametrize("part", ["encoder", "middle", "decoder"])
def test_part_strength_zero_leaves_that_part_alone(part, modules, picture):
    plain = outputs(modules, picture)
    with attach_adapters({b: trained() for b in BLOCKS}, modules, PartStrengths(**{part: 0.0})):
        hooked = outputs(modules, picture)
    for block, its_part in BLOCKS.items():
        assert torch.equal(plain[block], hooked[block]) == (its_part == part)


def test_each_part_has_its_own_strength(modules, picture):
    plain, inserts = outputs(modules, picture), {block: trained() for block in BLOCKS}
    strengths = PartStrengths(encoder=0.2, middle=0.5, decoder=-1.0)
    with attach_adapters(inserts, modules, strengths):
        hooked = outputs(modules, picture)
    for block in BLOCKS:
        assert torch.equal(hooked[block], inserts[block](plain[block], strengths.get(block)))


def test_nested_attachments_compose_and_part_again(modules, picture):
    block = "middle_block.0"
    first, second = trained(), randomized(untrained(), 9)
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
    with attach_adapters({block: insert}, modules, PartStrengths(encoder=0.5), mask):
        masked = outputs(modules, picture)[block]
    assert torch.allclose(masked[..., 5:], plain[..., 5:], atol=1e-5)
    assert torch.allclose(masked[..., :3], insert(plain, 0.5)[..., :3], atol=1e-5)


def test_tokens_are_changed_per_channel_and_refuse_a_mask(generator):
    tokens, insert = torch.randn(2, 9, CHANNELS, generator=generator), trained()
    module = nn.Identity()
    with attach_adapters({"middle_block.1": insert}, {"middle_block.1": module}):
        changed = module(tokens)
    assert torch.equal(changed, insert(tokens.transpose(1, 2)).transpose(1, 2))
    mask = torch.ones(1, 1, 4, 4)
    masked = attach_adapters({"middle_block.1": insert}, {"middle_block.1": module}, mask=mask)
    with masked, pytest.raises(ACFunError, match="attention blocks, where a mask cannot act"):
        module(tokens)
