"""What holds of every Backbone: tests for files with the fixtures ``backbone`` and ``network``.

ComfyUI's raises its own copy of ACFunError, which is a ValueError here.
"""

from __future__ import annotations

import re

import pytest
import torch

SIDE = 64
PROMPT = "a woman in S* style"
SITE = re.compile(r"(input_blocks|output_blocks)\.\d+\.\d|middle_block\.\d")


def new_images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))


def new_noise(backbone, count: int = 2) -> torch.Tensor:
    shape = (count, *backbone.latents_shape(SIDE)[1:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return 2 * noise.to(backbone.device)


def encode(backbone, prompt=PROMPT):
    return backbone.encode_prompt(prompt, "S*", backbone.word_vectors("style"))


def test_it_says_what_it_is(backbone):
    assert backbone.family in ("sd1", "sd2", "sdxl", "custom")
    assert backbone.prediction in ("noise", "v")
    assert re.fullmatch(r"[0-9a-f]{64}", backbone.fingerprint)
    assert backbone.native_side > 0 and backbone.compute_dtype.is_floating_point


def test_the_schedule_rises(backbone):
    sigmas = backbone.sigmas
    assert sigmas.ndim == 1 and sigmas.dtype == torch.float32
    assert sigmas.device == torch.device(backbone.device)
    assert sigmas[0] > 0 and (sigmas.diff() > 0).all()


def test_images_become_latents_and_latents_images(backbone):
    latents = backbone.encode_pictures(new_images())
    assert latents.shape == (2, *backbone.latents_shape(SIDE)[1:])
    assert latents.dtype == torch.float32 and torch.isfinite(latents).all()
    assert not latents.requires_grad and not torch.equal(latents[0], latents[1])
    decoded, preview = backbone.decode_latents(latents), backbone.preview(latents[:1])
    assert decoded.shape == (2, SIDE, SIDE, 3) and preview.shape == (1, SIDE, SIDE, 3)
    for image in (decoded, preview):
        assert image.min() >= 0 and image.max() <= 1 and image.device.type == "cpu"


def test_style_tokens_are_one_row_for_each_image(backbone):
    tokens = backbone.style_tokens(new_images())
    assert tokens.ndim == 3 and len(tokens) == 2 and tokens.dtype == torch.float32
    assert not tokens.requires_grad and not torch.equal(tokens[0], tokens[1])


def test_a_prompt_is_differentiable_in_the_words_vectors_and_in_no_weight(backbone, network):
    vectors = {n: v.detach().requires_grad_() for n, v in backbone.word_vectors("style").items()}
    assert all(v.ndim == 1 and v.dtype == torch.float32 for v in vectors.values())
    context = backbone.encode_prompt(PROMPT, "S*", vectors)
    assert context.tokens.ndim == 3 and len(context.tokens) == 1
    context.tokens.square().sum().backward()
    assert all(vector.grad.abs().max() > 0 for vector in vectors.values())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


def test_the_vector_acts_wherever_the_word_stands_and_nowhere_else(backbone):
    vectors = backbone.word_vectors("style")
    others = {name: vector + 1 for name, vector in vectors.items()}
    for prompt, acts in ((PROMPT, True), ("(S*), S*", True), ("a woman", False), ("GRASS*", False)):
        one, two = (backbone.encode_prompt(prompt, "S*", v).tokens for v in (vectors, others))
        assert torch.equal(one, two) is not acts, prompt


@pytest.mark.parametrize("word", ["", "  "])
def test_an_empty_word_is_refused(backbone, word):
    vectors = backbone.word_vectors("style")
    with pytest.raises(ValueError, match="The pseudo-word is empty"):
        backbone.encode_prompt(PROMPT, word, vectors)
    with pytest.raises(ValueError, match="has no token in this"):
        backbone.word_vectors(word)


def test_denoising_keeps_the_shape_and_is_differentiable_in_the_prompt(backbone):
    noisy, context = new_noise(backbone), encode(backbone)
    tokens = context.tokens.detach().requires_grad_()
    denoised = backbone.denoise(noisy, 2.0, type(context)(tokens, context.pooled))
    assert denoised.shape == noisy.shape and denoised.dtype == torch.float32
    assert torch.isfinite(denoised).all() and not torch.equal(denoised, noisy)
    denoised.square().mean().backward()
    assert tokens.grad.abs().max() > 0


def test_a_batch_of_prompts_is_each_prompt_alone(backbone):
    noisy = new_noise(backbone)
    contexts = [encode(backbone), encode(backbone, "a man")]
    tokens = torch.cat([context.tokens for context in contexts])
    both = backbone.denoise(noisy, 2.0, type(contexts[0])(tokens, negative=(False, True)))
    for index, context in enumerate(contexts):
        alone = backbone.denoise(noisy[index : index + 1], 2.0, context)
        assert torch.allclose(both[index : index + 1], alone, atol=1e-4)
    assert not torch.allclose(both[:1], backbone.denoise(noisy[:1], 2.0, contexts[1]), atol=1e-4)


@pytest.mark.parametrize("where", ["resblock", "attention"])
def test_sites_have_canonical_names_and_their_channels(backbone, where):
    points, seen = backbone.insert_points(where), {}
    assert points and all(SITE.fullmatch(name) for name in points)
    hooks = [
        point.module.register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: output.shape})
        )
        for name, point in points.items()
    ]
    backbone.denoise(new_noise(backbone), 2.0, encode(backbone))
    for hook in hooks:
        hook.remove()
    channels = {name: shape[1 if len(shape) == 4 else 2] for name, shape in seen.items()}
    assert channels == {name: point.channels for name, point in points.items()}


def test_self_attentions_are_the_decoders(backbone):
    attentions = backbone.self_attentions()
    assert attentions and all(hasattr(a, n) for a in attentions for n in ("to_q", "to_k", "to_v"))


def test_checkpointing_changes_no_result(backbone):
    noisy, context = new_noise(backbone), encode(backbone)
    plain = backbone.denoise(noisy, 2.0, context)
    with backbone.gradient_checkpointing(), backbone.autocast(backbone.compute_dtype):
        assert torch.allclose(backbone.denoise(noisy, 2.0, context), plain, atol=1e-5)


def test_it_tells_out_of_memory_from_other_errors(backbone):
    assert backbone.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not backbone.is_out_of_memory(RuntimeError("size mismatch"))
