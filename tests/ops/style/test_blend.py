"""Blends of two styles: what they compute, what they hold, and what they refuse."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from style_refusals import refuse
from tiny_backbone import TinyBackbone
from tiny_styles import (
    FACTS,
    IMAGE_WIDTH,
    LAYERS,
    TEXT_WIDTH,
    WIDTHS,
    new_trainables,
    randomized,
    sample_style,
    tensors_of,
    with_metadata,
)
from tiny_training import run, small_config

from acfun_ops.cli.inspect import describe
from acfun_ops.errors import ACFunError
from acfun_ops.sampling.generate import Drawing, draw_picture
from acfun_ops.style.blend import blend_styles, cross_styles
from acfun_ops.style.model_spec import StyleCard
from acfun_ops.style.style import MAX_PARTS, style_bytes
from acfun_ops.style.style_file import load_style, save_style

A, B = sample_style(0), sample_style(1)


def embedding(style, text, strength=1.0):
    return style.abstract_fusion()(text, style.style_tokens, strength)


def fused(style, text):
    """Return a prompt embedding under a blend, as its members say it is made."""
    return sum(share * embedding(member, text) for share, member in style.members)


def equal(one, other):
    a, b = tensors_of(one), tensors_of(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_ratio_0_and_1_are_the_very_styles():
    assert blend_styles(A, B, 0) is A
    assert blend_styles(A, B, 1) is B
    assert not equal(blend_styles(A, B, 0.01), A)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_inserts_compute_what_lies_between_those_of_the_two(ratio, generator):
    blend = blend_styles(A, B, ratio).inserts()
    for block, insert in blend.items():
        x = torch.randn(2, WIDTHS[block], 5, 5, generator=generator)
        a, b = (style.inserts()[block](x) for style in (A, B))
        assert torch.allclose(insert(x), torch.lerp(a, b, ratio), atol=2e-2)
        assert not torch.allclose(insert(x), torch.lerp(a, b, ratio + 0.05), atol=2e-2)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_prompts_lie_between_those_of_the_two(ratio, generator):
    text = torch.randn(1, 4, TEXT_WIDTH, generator=generator)
    a, b = embedding(A, text), embedding(B, text)
    assert torch.allclose(
        fused(blend_styles(A, B, ratio), text), torch.lerp(a, b, ratio), atol=1e-5
    )
    assert not torch.allclose(a, b, atol=0.1)


def test_styles_of_different_ranks_and_layers_blend(generator):
    other = randomized(new_trainables(3, rank=7, layers=LAYERS + 1), 3)
    other = other.to_style(FACTS, torch.randn(9, IMAGE_WIDTH, generator=generator))
    blend = blend_styles(A, other, 0.5)
    x = torch.randn(1, 4, 5, 5, generator=generator)
    a, b = (style.inserts()["middle_block.0"](x) for style in (A, other))
    assert torch.allclose(blend.inserts()["middle_block.0"](x), (a + b) / 2, atol=2e-2)
    assert [len(member.style_tokens) for _, member in blend.members] == [5, 9]


def test_abstract_of_one_and_concrete_of_the_other_is_exact():
    both = cross_styles(A, replace(B, facts=replace(B.facts, statistics="mean_std")))
    for name, tensor in tensors_of(both).items():
        assert torch.equal(tensor, tensors_of(B if name.startswith("cfun.") else A)[name])
    assert both.facts.format == 1


def test_facts_name_both_parents():
    for style in (blend_styles(A, B, 0.3), cross_styles(A, B)):
        assert style.facts.settings["style_a"] == A.digest
        assert style.facts.settings["style_b"] == B.digest
        assert style.facts.run not in (A.facts.run, B.facts.run)
    assert blend_styles(A, B, 0.3).facts.settings["ratio"] == 0.3
    assert blend_styles(A, B, 0.3).facts.run != blend_styles(A, B, 0.4).facts.run


def test_author_license_date_and_picture_of_its_styles_are_not_those_of_the_blend():
    card = StyleCard(author="A. N.", license="CC0", date="2026-01-01", thumbnail="data:,")
    one, other = replace(A, card=card), replace(B, card=card)
    for style in (blend_styles(one, other, 0.3), cross_styles(one, other)):
        assert style.card == StyleCard()
    assert blend_styles(one, other, 0) is one


def test_inspect_shows_shares_and_parents():
    lines = "\n".join(describe(blend_styles(A, B, 0.3)))
    assert "abstract parts that count 0.700, 0.300" in lines
    assert A.digest in lines and B.digest in lines
    assert "blend" not in "\n".join(describe(A))


def test_a_blend_of_a_blend_holds_all_three(generator):
    third = sample_style(2)
    blend = blend_styles(blend_styles(A, B, 0.5), third, 0.2)
    assert blend.facts.shares == pytest.approx((0.4, 0.4, 0.2))
    text = torch.randn(1, 4, TEXT_WIDTH, generator=generator)
    expected = sum(s * embedding(m, text) for s, m in ((0.4, A), (0.4, B), (0.2, third)))
    assert torch.allclose(fused(blend, text), expected, atol=1e-5)
    for _ in range(MAX_PARTS - 3):
        blend = blend_styles(blend, B, 0.5)
    with pytest.raises(ACFunError, match="at most 16 can be blended"):
        blend_styles(blend, B, 0.5)


def test_a_blend_is_saved_and_loaded_whole(tmp_path):
    blend, path = blend_styles(A, B, 0.3), tmp_path / "blend.safetensors"
    save_style(blend, path)
    loaded = load_style(path)
    assert loaded.facts == blend.facts
    assert style_bytes(loaded) == style_bytes(blend)
    for (share, one), (other_share, other) in zip(loaded.members, blend.members, strict=True):
        assert share == other_share and equal(one, other)
    assert not equal(*(member for _, member in loaded.members))
    assert loaded.facts.format == 2


def test_a_style_of_one_keeps_its_format_and_its_facts():
    assert A.facts.format == 1
    assert b"shares" not in style_bytes(A)
    assert b"shares" in style_bytes(blend_styles(A, B, 0.5))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"family": "sd1"}, "family: style_a has sdxl, style_b sd1"),
        ({"pseudo_word": "Y!"}, "pseudo word: style_a has X!, style_b Y!"),
        ({"heads": 1}, "heads: style_a has 2, style_b 1"),
        ({"statistics": "std"}, "statistics: style_a has mean_std, style_b std"),
    ],
)
def test_styles_of_different_kinds_are_refused(changes, said):
    with pytest.raises(ACFunError, match=said):
        blend_styles(A, replace(B, facts=replace(B.facts, **changes)), 0.5)


def test_styles_of_other_blocks_or_encoders_and_odd_ratios_are_refused():
    one_less = dict(list(B.concrete.items())[1:])
    for mix in (lambda other: blend_styles(A, other, 0.5), lambda other: cross_styles(A, other)):
        with pytest.raises(ACFunError, match="differ in their blocks: style_a has 3, style_b 2"):
            mix(replace(B, concrete=one_less))
        with pytest.raises(ACFunError, match="text encoders"):
            mix(replace(B, vectors={"l": B.vectors["l"]}))
    with pytest.raises(ACFunError, match="expected 0 "):
        blend_styles(A, B, 1.5)


@pytest.mark.parametrize(
    "shares", [[0.5], [0.7, 0.7], [1.0, 0.0], [0.5, 0.25, 0.25], [], ["a"], None, [0.1] * 10]
)
def test_a_blend_with_odd_shares_is_refused(shares, style_path):
    content = style_bytes(blend_styles(A, B, 0.5))
    facts = asdict(blend_styles(A, B, 0.5).facts) | {"shares": shares}
    refuse(style_path, with_metadata(content, json.dumps(facts)))


def test_a_blend_cannot_be_trained_further():
    with pytest.raises(ACFunError, match="blend of styles, which cannot be trained further"):
        new_trainables().load_style(blend_styles(A, B, 0.5), A.facts.family)
    new_trainables().load_style(cross_styles(A, B), A.facts.family)


def test_a_picture_is_drawn_under_a_blend():
    backbone = TinyBackbone()
    a, b = (run(small_config(seed=seed)).style for seed in (0, 1))
    drawing = Drawing(prompt="in S* style", steps=2, guidance=1.0)
    pictures = [draw_picture(backbone, drawing, s) for s in (a, blend_styles(a, b, 0.5), b)]
    assert not torch.allclose(pictures[0], pictures[1], atol=1e-3)
    assert not torch.allclose(pictures[1], pictures[2], atol=1e-3)
    nearly = draw_picture(backbone, drawing, blend_styles(a, b, 1e-4))
    assert torch.allclose(nearly, pictures[0], atol=1e-2)
