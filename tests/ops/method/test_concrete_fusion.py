"""CFun: statistics and affine against naive loops, and identity."""

import math

import pytest
import torch
from tiny_styles import CHANNELS, randomized, untrained_insert

from acfun_ops.errors import ACFunError
from acfun_ops.method.concrete_fusion import ConcreteFusion, channel_statistics


def trained(statistics="std", channels=CHANNELS):
    return randomized(untrained_insert(statistics, channels))


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
    assert torch.equal(untrained_insert()(features, strength), features)


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
