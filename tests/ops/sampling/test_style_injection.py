"""Attention to another image, against the formula written out."""

import pytest
import torch
from torch import nn

from acfun_ops.sampling.style_injection import (
    InjectionError,
    inject_style,
    last_two_thirds,
    record_inputs,
)

WIDTH, TOKENS = 4, 6


class Attention(nn.Module):
    """One head, with projections named as diffusers and ComfyUI name them."""

    def __init__(self, generator):
        super().__init__()
        for name in ("to_q", "to_k", "to_v"):
            layer = nn.Linear(WIDTH, WIDTH, bias=False)
            nn.init.normal_(layer.weight, generator=generator)
            setattr(self, name, layer)

    def forward(self, x):
        return attended(self.to_q(x), self.to_k(x), self.to_v(x))


def attended(query, key, value):
    scores = query @ key.transpose(-1, -2) / WIDTH**0.5
    return torch.softmax(scores, dim=-1) @ value


@pytest.fixture
def attention(generator):
    return Attention(generator).requires_grad_(False)


def record(attention, x):
    with record_inputs([attention]) as inputs:
        attention(x)
    return inputs


@pytest.mark.parametrize("kept_query", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_what_is_sampled_attends_to_the_style(kept_query, temperature, attention, generator):
    style, face, *sampled = torch.randn(4, 1, TOKENS, WIDTH, generator=generator)
    inputs = record(attention, style), record(attention, face)
    with inject_style([attention], *inputs, kept_query, temperature):
        outputs = attention(torch.cat(sampled))
    for image, output in zip(sampled, outputs.split(1), strict=True):
        own, its = attention.to_q(image), attention.to_q(face)
        query = temperature * (kept_query * its + (1 - kept_query) * own)
        expected = attended(query, attention.to_k(style), attention.to_v(style))
        assert torch.allclose(output, expected, atol=1e-5)


def test_recording_changes_nothing_and_keeps_what_was_given(attention, generator):
    x = torch.randn(1, TOKENS, WIDTH, generator=generator)
    before = attention(x)
    with record_inputs([attention]) as inputs:
        assert torch.equal(attention(x), before)
    assert torch.equal(inputs[0], x)


def hooks_of(attention):
    return [m for m in attention.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_hooks_are_gone_afterwards_whatever_happens(attention, generator):
    x = torch.randn(1, TOKENS, WIDTH, generator=generator)
    before, inputs = attention(x), record(attention, x)
    with pytest.raises(KeyError), inject_style([attention], inputs, inputs, 0.5, 2.0):
        assert len(hooks_of(attention)) == 3
        raise KeyError
    with pytest.raises(KeyError), record_inputs([attention]):
        assert len(hooks_of(attention)) == 1
        raise KeyError
    assert torch.equal(attention(x), before)
    assert hooks_of(attention) == []


class Tiled(Attention):
    """Attends within each half of the tokens, as HyperTile does."""

    def forward(self, x):
        return super().forward(x.reshape(2 * len(x), -1, WIDTH)).reshape(x.shape)


def test_a_call_that_does_not_see_the_sample_is_refused(attention, generator):
    x = torch.randn(1, TOKENS, WIDTH, generator=generator)
    inputs, tiled = record(attention, x), Tiled(generator)
    for module, seen in ((tiled, x), (attention, x.repeat(2, 1, 1))):
        with pytest.raises(InjectionError), record_inputs([module]):
            module(seen)
    with pytest.raises(InjectionError), record_inputs([attention, Attention(generator)]):
        attention(x)
    with pytest.raises(InjectionError), record_inputs([attention]):
        attention(x)
        attention(x)
    with pytest.raises(InjectionError), inject_style([tiled], inputs, inputs, 0.5, 2.0):
        tiled(x)
    with pytest.raises(InjectionError), inject_style([attention], inputs, inputs, 0.5, 2.0):
        attention.to_q(x)


def test_samples_may_come_one_at_a_time(attention, generator):
    style, face, *sampled = torch.randn(4, 1, TOKENS, WIDTH, generator=generator)
    inputs = record(attention, style), record(attention, face)
    with inject_style([attention], *inputs, 0.5, 2.0):
        single = torch.cat([attention(one) for one in sampled])
        assert torch.allclose(single, attention(torch.cat(sampled)), atol=1e-6)


@pytest.mark.parametrize(("count", "taken"), [(9, 6), (36, 24), (6, 4), (1, 1)])
def test_late_ones_are_the_last_two_thirds(count, taken):
    modules = [nn.Identity() for _ in range(count)]
    assert list(last_two_thirds(modules)) == modules[-taken:]
