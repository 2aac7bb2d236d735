"""Drawing with a Backbone: what guidance mixes, what type it computes in, what it leaves alone."""

import pytest
import torch
from tiny_backbone import TinyBackbone

from acfun_ops.drawing.drawing import draw_latent
from acfun_ops.method.diffusion import sample_euler, sampling_sigmas

NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def backbone():
    return TinyBackbone()


def prompt(backbone, text):
    return backbone.encode_prompt(text, "S*", {})


def drawn(backbone, plain=None, guidance=1.0, dtype=torch.float32, steps=3):
    styled = prompt(backbone, "a face in S* style")
    return draw_latent(backbone, dtype, NOISE, steps, styled, plain, guidance)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 5.0])
def test_guidance_is_a_mix_of_both_prompts(guidance, backbone):
    styled, plain = prompt(backbone, "a face in S* style"), prompt(backbone, "")

    def denoise(noisy, sigma):
        one, other = (backbone.denoise(noisy, sigma, context) for context in (styled, plain))
        return guidance * one + (1 - guidance) * other

    with torch.no_grad():
        expected = sample_euler(denoise, NOISE, sampling_sigmas(backbone.sigmas, 3))
    assert torch.allclose(drawn(backbone, plain, guidance), expected, atol=1e-4)


def test_without_a_plain_prompt_it_asks_once_per_step(backbone):
    calls = []
    denoise = backbone.denoise

    def spy(noisy, sigma, context):
        calls.append(float(sigma))
        return denoise(noisy, sigma, context)

    backbone.denoise = spy
    drawn(backbone, steps=4)
    assert calls == sampling_sigmas(backbone.sigmas, 4)[:-1].tolist()


def test_prompt_and_noise_matter(backbone):
    other = draw_latent(backbone, torch.float32, NOISE, 3, prompt(backbone, "a house"))
    mirrored = draw_latent(
        backbone, torch.float32, NOISE.flip(-1), 3, prompt(backbone, "a face in S* style")
    )
    assert not torch.allclose(drawn(backbone), other, atol=1e-3)
    assert not torch.allclose(drawn(backbone), mirrored, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unet_computes_in_the_given_type_and_the_latent_is_float32(dtype, backbone):
    seen = set()
    backbone.unet.head.register_forward_hook(lambda m, args, output: seen.add(output.dtype))
    latent = drawn(backbone, prompt(backbone, ""), 2.0, dtype)
    assert seen == {dtype}
    assert latent.dtype == torch.float32
    assert torch.isfinite(latent).all()


def test_nothing_is_recorded_and_no_global_randomness_is_used(backbone):
    before = torch.get_rng_state()
    context = prompt(backbone, "a face in S* style")
    context.tokens.requires_grad_()
    latent = draw_latent(backbone, torch.float32, NOISE, 2, context)
    assert not latent.requires_grad
    assert torch.equal(torch.get_rng_state(), before)
