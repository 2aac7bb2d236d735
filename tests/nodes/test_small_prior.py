"""The small prior in ComfyUI: it draws there what it draws with diffusers."""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from pack_nodes import picture
from small_prior_node.loading import load_prior
from stock_nodes import encode

import nodes
from acfun_ops.backbones.diffusers_backbone import load_pipeline
from acfun_ops.sampling.sampler import Guidance, draw_latents, initial_noise
from evaluation.toy import PRIOR

PROMPT = "a photo of a woman with long red hair and glasses"
STEPS = 8
SEED = 5
SIDE = 64
GUIDANCE = 2.0


@pytest.fixture(scope="module")
def backbone():
    return load_pipeline(PRIOR)


@pytest.fixture(scope="module")
def loaded():
    with torch.inference_mode():
        return load_prior(PRIOR)


@pytest.mark.parametrize("prompt", [PROMPT, "", "a painting of a man, " * 9])
def test_prompt_is_encoded_as_by_transformers(backbone, loaded, prompt):
    ((embedding, _),) = encode(loaded[1], prompt)
    expected = backbone.encode_prompt(prompt, "", {}).tokens
    assert embedding.shape == expected.shape
    torch.testing.assert_close(embedding, expected, atol=1e-4, rtol=1e-4)


def test_latents_go_both_ways_as_in_diffusers(backbone, loaded):
    model, _, vae, _ = loaded
    pictures = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        latents = model.model.process_latent_in(vae.encode(pictures))
        decoded = vae.decode(model.model.process_latent_out(latents))
    torch.testing.assert_close(latents, backbone.encode_pictures(pictures), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded, backbone.decode_latents(latents), atol=1e-4, rtol=1e-4)


def test_picture_is_seen_as_by_transformers(backbone, loaded):
    pictures = torch.rand(1, 80, 80, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = loaded[3].encode_image(pictures)["penultimate_hidden_states"]
    torch.testing.assert_close(tokens, backbone.style_tokens(pictures), atol=1e-4, rtol=1e-4)


def test_stock_sampler_draws_what_diffusers_draws(backbone, loaded):
    model, clip, _, _ = loaded
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", STEPS).tolist()
    shape = backbone.encode_pictures(torch.zeros(1, SIDE, SIDE, 3)).shape
    noise = torch.randn(shape, generator=torch.manual_seed(SEED))  # As ComfyUI makes it.
    prompts = [backbone.encode_prompt(prompt, "", {}) for prompt in (PROMPT, "")]
    expected = draw_latents(
        backbone, initial_noise(sigmas[0], noise), sigmas, Guidance(*prompts, GUIDANCE)
    )
    positive, negative = (encode(clip, prompt) for prompt in (PROMPT, ""))
    with torch.inference_mode():
        latent = nodes.EmptyLatentImage().generate(SIDE, SIDE)[0]
        setting = (SEED, STEPS, GUIDANCE, "euler", "normal")
        samples = nodes.common_ksampler(model, *setting, positive, negative, latent)[0]["samples"]
        drawn = model.model.process_latent_in(samples)
    assert expected.std() > 0.5
    torch.testing.assert_close(drawn, expected, atol=1e-3, rtol=0)


def test_style_trains_and_changes_what_is_drawn(acfun, loaded):
    model, clip, vae, vision = loaded
    style_picture, face = picture(1), picture(2)
    style = acfun.train(
        model=model,
        clip=clip,
        vae=vae,
        clip_vision=vision,
        style_image=style_picture,
        face_image=face,
        prompt="a painting of a woman in S* style",
    )[0]
    assert style.facts.family == "custom"
    positive = acfun.embed(style, clip, "a painting of a woman in S* style")
    plain = encode(clip, "a painting of a woman in style")
    adapted = acfun.adapt(model, style)
    latent = nodes.EmptyLatentImage().generate(SIDE, SIDE)[0]
    with torch.inference_mode():
        drawn = [
            nodes.common_ksampler(m, SEED, 2, GUIDANCE, "euler", "normal", p, plain, latent)[0]
            for m, p in ((model, plain), (model, positive), (adapted, positive))
        ]
    one, two, three = (latents["samples"] for latents in drawn)
    assert not torch.equal(one, two)
    assert not torch.equal(two, three)
