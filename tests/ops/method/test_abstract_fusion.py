"""AFun: identity when untrained, a naive loop as reference, dropout only with a generator."""

import math

import pytest
import torch
from tiny_styles import randomized

from acfun_ops.errors import ACFunError
from acfun_ops.method.abstract_fusion import AbstractFusion

TEXT, STYLE = 16, 12


def untrained(layers=2, heads=2, dropout=0.0):
    fusion = AbstractFusion(TEXT, STYLE, layers, heads, dropout)
    fusion.reset_parameters(torch.Generator().manual_seed(1))
    return fusion


def trained(layers=2, heads=2, dropout=0.0):
    return randomized(untrained(layers, heads, dropout))


@pytest.fixture
def text(generator):
    return torch.randn(2, 5, TEXT, generator=generator)


@pytest.fixture
def style_tokens(generator, text):
    return torch.randn(2, 7, STYLE, generator=generator)


def naive_norm(vector):
    mean = sum(vector) / len(vector)
    variance = sum((x - mean) ** 2 for x in vector) / len(vector)
    return [(x - mean) / math.sqrt(variance + 1e-5) for x in vector]


def naive_matrix(weight, vector):
    return [sum(w * x for w, x in zip(row, vector, strict=True)) for row in weight.tolist()]


def naive_layer(layer, text, style_tokens):
    """Eq. 2 for one sample and one layer: lists of token vectors in, what is added out."""
    queries = [naive_matrix(layer.query.weight, naive_norm(token)) for token in text]
    normed = [naive_norm(token) for token in style_tokens]
    keys = [naive_matrix(layer.key.weight, token) for token in normed]
    values = [naive_matrix(layer.value.weight, token) for token in normed]
    width = len(queries[0]) // layer.heads
    added = []
    for query in queries:
        mixed = []
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            scores = [math.exp(naive_dot(query[part], k[part]) / math.sqrt(width)) for k in keys]
            for channel in range(part.start, part.stop):
                column = [value[channel] for value in values]
                mixed.append(naive_dot(scores, column) / sum(scores))
        added.append(naive_matrix(layer.out.weight, mixed))
    return added


def naive_dot(one, other):
    return sum(x * y for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 2), (1, 4), (3, 1)])
@pytest.mark.parametrize("strength", [1.0, 0.4, -0.5])
def test_fusion_equals_a_naive_loop(layers, heads, strength, text, style_tokens):
    fusion = trained(layers, heads)
    expected = []
    for sample, style in zip(text.tolist(), style_tokens.tolist(), strict=True):
        embedding = sample
        for layer in fusion.layers:
            added = naive_layer(layer, embedding, style)
            embedding = (torch.tensor(embedding) + torch.tensor(added)).tolist()
        expected.append(torch.tensor(embedding))
    expected = text + strength * (torch.stack(expected) - text)
    assert torch.allclose(fusion(text, style_tokens, strength), expected, atol=1e-5)


def test_new_fusion_is_identity_without_being_reset(text, style_tokens):
    assert torch.equal(AbstractFusion(TEXT, STYLE)(text, style_tokens), text)


@pytest.mark.parametrize("strength", [1.0, 0.3, 2.0])
def test_untrained_fusion_is_identity(strength, text, style_tokens, generator):
    assert torch.equal(untrained()(text, style_tokens, strength), text)
    assert torch.equal(untrained(dropout=0.5)(text, style_tokens, strength, generator), text)


@pytest.mark.parametrize("strength", [1.0, 0.3, 2.0])
def test_trained_fusion_changes_the_text(strength, text, style_tokens):
    assert not torch.allclose(trained()(text, style_tokens, strength), text, atol=1e-2)


def test_strength_zero_returns_the_same_object(text, style_tokens):
    assert trained()(text, style_tokens, 0) is text
    assert trained()(text, style_tokens, 0.0) is text


def test_strength_interpolates_from_text_to_fused(text, style_tokens):
    full, half = (trained()(text, style_tokens, strength) for strength in (1.0, 0.5))
    assert torch.allclose(half, (text + full) / 2, atol=1e-6)


def test_prompt_still_matters_when_fused(text, style_tokens):
    fusion = trained()
    fused, other = fusion(text, style_tokens), fusion(text.flip(1), style_tokens)
    assert not torch.allclose(fused, other)


def test_style_tokens_are_a_set_and_samples_are_apart(text, style_tokens):
    fusion = trained()
    fused = fusion(text, style_tokens)
    assert torch.allclose(fusion(text, style_tokens.flip(1)), fused, atol=1e-5)
    assert torch.allclose(fusion(text[1:], style_tokens[1:]), fused[1:], atol=1e-5)
    assert not torch.allclose(fusion(text, style_tokens.flip(0)), fused, atol=1e-3)


def test_one_set_of_tokens_serves_the_batch_and_any_prompt_length(text, style_tokens):
    fusion = trained()
    shared = fusion(text, style_tokens[0])
    repeated = fusion(text, style_tokens[:1].expand(2, -1, -1))
    assert torch.equal(shared, repeated)
    assert torch.allclose(fusion(text[:, :3], style_tokens[0]), shared[:, :3], atol=1e-5)


def test_dropout_needs_a_generator_and_is_drawn_by_it(text, style_tokens):
    def fused(seed, dropout=0.5):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return trained(dropout=dropout).train()(text, style_tokens, generator=generator)

    before = torch.get_rng_state()
    assert torch.equal(fused(None), fused(None, dropout=0.0))
    assert torch.equal(fused(1), fused(1))
    assert not torch.allclose(fused(1), fused(2))
    assert not torch.allclose(fused(1), fused(None))
    assert torch.equal(fused(1, dropout=0.0), fused(None))
    torch.set_rng_state(before)


def test_dropout_uses_no_global_randomness(text, style_tokens, generator):
    fusion = trained(dropout=0.5)
    before = torch.get_rng_state()
    fusion(text, style_tokens, generator=generator)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_keeps_the_mean(text, style_tokens, generator):
    fusion, count = trained(layers=1, dropout=0.3).requires_grad_(False), 1500
    exact = fusion(text[:1], style_tokens[0])[0]
    drawn = fusion(text[:1].expand(count, -1, -1), style_tokens[0], generator=generator)
    error = (drawn.mean(dim=0) - exact).abs() / (drawn.std(dim=0) / math.sqrt(count))
    assert error.max() < 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_result_has_the_type_of_the_text_and_float32_inside(dtype, text, style_tokens):
    fusion = trained()
    exact = fusion(text.to(dtype).float(), style_tokens)
    with torch.autocast("cpu", dtype):
        fused = fusion(text.to(dtype), style_tokens)
    assert fused.dtype == dtype
    assert torch.equal(fused, exact.to(dtype))


def test_gradients_reach_the_text_and_every_weight(text, style_tokens):
    fusion = trained()
    text.requires_grad_()
    fusion(text, style_tokens).square().sum().backward()
    assert text.grad.abs().sum() > 0
    assert all(weight.grad.abs().sum() > 0 for weight in fusion.parameters())


def test_weights_are_drawn_by_the_generator():
    def first(seed):
        fusion = AbstractFusion(TEXT, STYLE)
        fusion.reset_parameters(torch.Generator().manual_seed(seed))
        return fusion.layers[0].query.weight

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize(
    ("text_width", "style_width", "message"),
    [
        (TEXT + 1, STYLE, "17 wide and not 16, image tokens 12 and 12"),
        (TEXT, STYLE - 1, "16 wide and not 16, image tokens 11 and 12"),
    ],
)
def test_other_widths_are_refused(text_width, style_width, message):
    with pytest.raises(ACFunError, match=f"{message}.*Use the CLIP"):
        trained()(torch.zeros(1, 2, text_width), torch.zeros(3, style_width))
