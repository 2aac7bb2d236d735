"""Drawing with a Backbone: what guidance mixes, what type it computes in, what it leaves alone."""

import pytest
import torch
from tiny_backbone import TinyBackbone

from acfun_ops.backbones.backbone import Context
from acfun_ops.sampling.sampler import (
    Guidance,
    StoppedError,
    draw_latents,
    initial_noise,
    sample_euler,
    sampling_sigmas,
)

NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def backbone():
    return TinyBackbone()


def prompt(backbone, text):
    return backbone.encode_prompt(text, "S*", {})


def drawn(backbone, guidance=None, noise=NOISE, steps=3, **options):
    guidance = guidance or Guidance(prompt(backbone, "a face in S* style"))
    sigmas = sampling_sigmas(backbone.sigmas, steps)
    return draw_latents(backbone, initial_noise(sigmas[0], noise), sigmas, guidance, **options)


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("count", [1, 3])
def test_guidance_is_a_mix_of_both_prompts(scale, count, backbone):
    styled, plain = prompt(backbone, "a face in S* style"), prompt(backbone, "")

    def denoise(noisy, sigma):
        one, other = (backbone.denoise(noisy, sigma, context) for context in (styled, plain))
        return scale * one + (1 - scale) * other

    noise = torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(8))
    sigmas = sampling_sigmas(backbone.sigmas, 3)
    with torch.no_grad():
        expected = sample_euler(denoise, initial_noise(sigmas[0], noise), sigmas)
    latents = drawn(backbone, Guidance(styled, plain, scale), noise)
    assert torch.allclose(latents, expected, atol=1e-4)


def test_prompts_of_different_lengths_are_guided_in_one_batch(backbone):
    styled, plain = prompt(backbone, "a face in S* style"), prompt(backbone, "")
    long = Context(torch.cat([styled.tokens, prompt(backbone, "a house").tokens], dim=1))

    def denoise(noisy, sigma):
        one, other = (backbone.denoise(noisy, sigma, context) for context in (long, plain))
        return other + 4.0 * (one - other)

    sigmas = sampling_sigmas(backbone.sigmas, 3)
    with torch.no_grad():
        expected = sample_euler(denoise, initial_noise(sigmas[0], NOISE), sigmas)
    batches = []
    backbone.denoise = record_batches(backbone.denoise, batches)
    assert torch.allclose(drawn(backbone, Guidance(long, plain, 4.0)), expected, atol=1e-4)
    assert batches == [2, 2, 2]


def test_each_latent_is_told_whether_its_prompt_is_the_negative_one(backbone):
    seen, denoise = [], backbone.denoise

    def note(noisy, sigma, context):
        seen.append(context.negative)
        return denoise(noisy, sigma, context)

    backbone.denoise = note
    styled, plain = prompt(backbone, "a face in S* style"), prompt(backbone, "")
    drawn(backbone, Guidance(styled, plain, 4.0), NOISE.repeat(2, 1, 1, 1))
    drawn(backbone, Guidance(styled))
    assert seen == [(False, False, True, True)] * 3 + [(False,)] * 3


def record_batches(denoise, batches):
    def recorded(noisy, sigma, context):
        batches.append(len(noisy))
        return denoise(noisy, sigma, context)

    return recorded


def test_a_drawing_can_be_stopped_at_every_step(backbone):
    for last in (1, 2, 3):
        told = []

        def on_step(told=told, last=last):
            told.append(1)
            return len(told) == last

        with pytest.raises(StoppedError):
            drawn(backbone, on_step=on_step)
        assert len(told) == last


def test_without_a_plain_prompt_it_asks_once_per_step(backbone):
    calls = []
    denoise = backbone.denoise

    def spy(noisy, sigma, context):
        calls.append(float(sigma))
        return denoise(noisy, sigma, context)

    backbone.denoise = spy
    drawn(backbone, steps=4)
    assert calls == sampling_sigmas(backbone.sigmas, 4)[:-1]


def test_prompt_and_noise_matter(backbone):
    other = drawn(backbone, Guidance(prompt(backbone, "a house")))
    mirrored = drawn(backbone, noise=NOISE.flip(-1))
    assert not torch.allclose(drawn(backbone), other, atol=1e-3)
    assert not torch.allclose(drawn(backbone), mirrored, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unet_computes_in_the_given_type_and_the_latent_is_float32(dtype, backbone):
    seen = set()
    backbone.unet.head.register_forward_hook(lambda m, args, output: seen.add(output.dtype))
    styled, plain = prompt(backbone, "a face in S* style"), prompt(backbone, "")
    latent = drawn(backbone, Guidance(styled, plain, 2.0), dtype=dtype)
    assert seen == {dtype}
    assert latent.dtype == torch.float32
    assert torch.isfinite(latent).all()


def test_nothing_is_recorded_and_no_global_randomness_is_used(backbone):
    before = torch.get_rng_state()
    context = prompt(backbone, "a face in S* style")
    context.tokens.requires_grad_()
    latent = drawn(backbone, Guidance(context), steps=2)
    assert not latent.requires_grad
    assert torch.equal(torch.get_rng_state(), before)
