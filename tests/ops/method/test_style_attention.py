"""Attention to another picture of the batch, against the formula written out."""

import pytest
import torch
from torch import nn

from acfun_ops.method.style_attention import borrowed, late

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


@pytest.mark.parametrize("kept_query", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_what_is_drawn_attends_to_the_style(kept_query, temperature, attention, generator):
    style, content, *drawn = torch.randn(4, TOKENS, WIDTH, generator=generator)
    with borrowed([attention], kept_query, temperature):
        outputs = attention(torch.stack([style, content, *drawn]))
    for picture, output in zip(drawn, outputs[2:], strict=True):
        own, its = attention.to_q(picture), attention.to_q(content)
        query = temperature * (kept_query * its + (1 - kept_query) * own)
        expected = attended(query, attention.to_k(style), attention.to_v(style))
        assert torch.allclose(output, expected, atol=1e-5)


def test_style_and_content_see_only_themselves(attention, generator):
    batch = torch.randn(3, TOKENS, WIDTH, generator=generator)
    with borrowed([attention], 0.5, 2.0):
        outputs = attention(batch)
    assert torch.equal(outputs[:2], attention(batch)[:2])


def test_hooks_are_gone_afterwards_whatever_happens(attention, generator):
    batch = torch.randn(3, TOKENS, WIDTH, generator=generator)
    before = attention(batch)
    with pytest.raises(KeyError), borrowed([attention], 0.5, 2.0):
        raise KeyError
    assert torch.equal(attention(batch), before)
    assert not any(module._forward_hooks for module in attention.modules())


@pytest.mark.parametrize(("count", "taken"), [(9, 6), (36, 24), (6, 4), (1, 1)])
def test_late_ones_are_the_last_two_thirds(count, taken):
    modules = [nn.Identity() for _ in range(count)]
    assert list(late(modules)) == modules[-taken:]
