"""Noise levels, weights and the sampler."""

import math
from itertools import pairwise

import pytest
import torch

from acfun_ops.method.diffusion import (
    add_noise,
    noise_level,
    prediction_weight,
    sample_noise,
    sample_sigma,
)
from acfun_ops.sampling.sampler import initial_noise, sample_euler, sampling_sigmas

SCHEDULE = torch.linspace(0.03, 14.6, 1000)
SIGMAS = [0.03, 0.5, 1.0, 3.7, 14.6]


def predictions_of(clean, noisy, sigma):
    """Noise, v and velocity that a picture's clean latent means, from their definitions."""
    alpha, level = 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
    noise = (noisy - clean) / sigma
    return {"noise": noise, "v": alpha * noise - level * clean, "velocity": noise - clean}


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("prediction", ["noise", "v", "velocity"])
def test_weighted_clean_error_is_the_prediction_error(sigma, prediction, generator):
    clean, noise, denoised = torch.randn(3, 2, 4, 8, 8, generator=generator, dtype=torch.float64)
    noisy = add_noise(clean, noise, sigma)
    target = predictions_of(clean, noisy, sigma)[prediction]
    predicted = predictions_of(denoised, noisy, sigma)[prediction]
    weight = prediction_weight(sigma, prediction)
    expected = (predicted - target).square().mean()
    assert torch.allclose(weight * (denoised - clean).square().mean(), expected)


def test_prediction_weights_differ():
    assert prediction_weight(2.0, "noise") == 0.25
    assert prediction_weight(2.0, "v") == 1.25


def test_noise_level_is_the_cosine_schedule_s_time():
    for time in torch.linspace(0.01, 0.99, 50, dtype=torch.float64).tolist():
        assert noise_level(math.tan(time * math.pi / 2)) == pytest.approx(time)
    assert noise_level(0.0) == 0
    assert noise_level(math.inf) == 1


def drawn_sigmas(steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor([sample_sigma(SCHEDULE, step, generator) for step in steps])


@pytest.mark.parametrize("first", [0, 1, 137, 500_000])
@pytest.mark.parametrize("every", [1, 4])
def test_any_forty_steps_cover_the_schedule_evenly(first, every):
    drawn = drawn_sigmas(range(first, first + 40 * every, every))
    assert drawn.shape == (40,)
    assert torch.isin(drawn, SCHEDULE).all()
    counts = torch.histc(drawn, bins=8, min=0.03, max=14.6)
    assert (counts - 5).abs().max() <= 2


def test_the_first_step_is_in_the_middle_of_the_schedule():
    places = [int((drawn_sigmas([0], seed) > SCHEDULE).sum()) for seed in range(20)]
    assert 0.5 * len(SCHEDULE) <= min(places) <= max(places) <= 0.54 * len(SCHEDULE)


def test_drawn_sigmas_are_uniform_in_the_long_run():
    places = torch.searchsorted(SCHEDULE, drawn_sigmas(range(20_000)))
    assert (torch.bincount(places // 20) - 400).abs().max() < 80


def test_drawn_sigma_depends_on_the_step_and_the_generator_alone():
    before = torch.get_rng_state()
    assert torch.equal(drawn_sigmas(range(5), seed=1), drawn_sigmas(range(5), seed=1))
    assert not torch.equal(drawn_sigmas(range(5), seed=1), drawn_sigmas(range(5), seed=2))
    assert not torch.equal(drawn_sigmas(range(5)), drawn_sigmas(range(1, 6)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_short_schedules_are_drawn_from_too(count, generator):
    drawn = {sample_sigma(SCHEDULE[:count], step, generator) for step in range(50)}
    assert drawn == set(SCHEDULE[:count].tolist())


def test_levels_of_each_step_by_itself_are_of_the_whole_schedule(generator):
    schedule = torch.arange(10.0)
    drawn = {sample_sigma(schedule, 0, generator, is_even=False) for _ in range(300)}
    assert drawn == set(schedule.tolist())


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_sampled_noise_is_white_but_for_its_channel_means(offset, generator):
    noise = sample_noise(torch.Size([2000, 4, 8, 8]), offset, generator)
    means = noise.mean(dim=(2, 3))
    assert float(means.std()) == pytest.approx(math.sqrt(offset**2 + 1 / 64), rel=0.05)
    rest = noise - means[..., None, None]
    assert float(rest.square().mean()) == pytest.approx(1 - 1 / 64, rel=0.02)
    assert abs(float((means[:, 0] * means[:, 1]).mean())) < 0.02


def test_sampled_noise_depends_on_the_generator_alone():
    shape, before = torch.Size([2, 4, 8, 8]), torch.get_rng_state()
    one, same, other = (
        sample_noise(shape, 0.3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("steps", [1, 2, 10, 20, 500, 1500])
def test_sampling_sigmas_fall_from_the_noisiest_to_zero(steps):
    sigmas = sampling_sigmas(SCHEDULE, steps)
    assert len(sigmas) == steps + 1
    assert sigmas[0] == SCHEDULE[-1]
    assert sigmas[-1] == 0
    falls = [after - before for before, after in pairwise(sigmas)]
    assert max(falls) <= 0
    assert max(falls) < 0 or steps > len(SCHEDULE)


@pytest.mark.parametrize("steps", [1, 7, 20])
def test_sampler_with_an_exact_denoiser_reaches_the_clean_picture(steps, generator):
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    sigmas = sampling_sigmas(SCHEDULE, steps)
    drawn = sample_euler(lambda noisy, sigma: clean, initial_noise(sigmas[0], noise), sigmas)
    assert torch.allclose(drawn, clean, atol=1e-5)


def test_sampler_follows_the_flow_of_a_gaussian(generator):
    mean, deviation = 3.0, 0.5
    noise = torch.randn(1, 4, 8, 8, generator=generator, dtype=torch.float64)

    def denoise(noisy, sigma):
        share = deviation**2 / (deviation**2 + sigma**2)
        return mean + share * (noisy - mean)

    sigmas = sampling_sigmas(torch.linspace(1e-3, 10, 4000, dtype=torch.float64), 2000)
    start = initial_noise(sigmas[0], noise)
    expected = mean + (start - mean) * deviation / math.sqrt(deviation**2 + 10**2)
    assert torch.allclose(sample_euler(denoise, start, sigmas), expected, atol=0.01)


def test_sampler_hands_every_level_on_and_records_no_gradient(generator):
    levels = []

    def denoise(noisy, sigma):
        levels.append(float(sigma))
        return noisy * weight

    weight = torch.ones(1, requires_grad=True)
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    drawn = sample_euler(denoise, noise, sampling_sigmas(SCHEDULE, 3))
    assert levels == sampling_sigmas(SCHEDULE, 3)[:-1]
    assert not drawn.requires_grad
