"""Apply ACFun Style, with the two separate nodes and the stock nodes as the oracle."""

from __future__ import annotations

import pytest
import torch
from stock_nodes import encode, equal_conditioning, fingerprint, sample

import nodes

TEXT = "a woman in S* style"


@pytest.fixture(scope="module")
def loaded(comfy):
    return comfy.checkpoint("sd1")[:2]


@pytest.fixture
def apply(acfun, loaded):
    """Return a function that gives MODEL and CONDITIONING of Apply ACFun Style."""
    model, clip = loaded
    acfun.style()  # Its training says something, too.

    def run(style=None, **inputs):
        inputs = {"model": model, "clip": clip, "text": TEXT, **inputs}
        return acfun.run("ACFunApplyStyle", style=style or acfun.style(), **inputs)

    return run


@pytest.fixture(scope="module")
def draw(loaded):
    negative = encode(loaded[1], "")
    return lambda model, positive, **options: sample(model, positive, negative, **options)[-1]


@torch.inference_mode()
def in_mask(conditioning, mask):
    return nodes.ConditioningSetMask().append(conditioning, mask, "default", 1.0)[0]


def left_half(size=64):
    mask = torch.zeros(1, size, size)
    mask[..., : size // 2] = 1
    return mask


@pytest.mark.parametrize(
    ("settings", "abstract", "concrete"),
    [
        ({}, 1.0, 1.0),
        ({"strength": 0.6}, 0.6, 0.6),
        ({"balance": 0.0}, 1.0, 0.0),
        ({"balance": 0.25}, 1.0, 0.5),
        ({"balance": 0.75, "strength": 2.0}, 1.0, 2.0),
    ],
)
def test_it_draws_what_the_two_nodes_draw(acfun, loaded, apply, draw, settings, abstract, concrete):
    model, clip = loaded
    styled, conditioning = apply(**settings)
    chained = acfun.adapt(model, acfun.style(), strength=concrete)
    fused = acfun.embed(acfun.style(), clip, TEXT, strength=abstract)
    picture = draw(styled, conditioning)
    assert equal_conditioning(conditioning, fused)
    assert torch.equal(picture, draw(chained, fused))
    other = acfun.embed(acfun.style(), clip, TEXT, strength=abstract + 0.5)
    assert not torch.allclose(picture, draw(chained, other), atol=1e-3)
    if concrete:
        assert not torch.allclose(picture, draw(model, fused), atol=1e-3)


def test_balance_1_leaves_the_prompt_plain(acfun, loaded, apply, draw):
    model, clip = loaded
    styled, conditioning = apply(balance=1.0)
    assert equal_conditioning(conditioning, encode(clip, "a woman in style"))
    chained = draw(acfun.adapt(model, acfun.style()), conditioning)
    assert torch.equal(draw(styled, conditioning), chained)
    assert not torch.allclose(chained, draw(model, conditioning), atol=1e-3)


@pytest.mark.parametrize("text", ["a (woman:1.2)", TEXT, "in (S*:1.3) style"])
def test_strength_0_is_the_plain_model_and_clip_text_encode(loaded, apply, text):
    model, clip = loaded
    without_word = text.replace("S*", " ")
    for settings in ({"strength": 0.0}, {"mask": torch.zeros(1, 8, 8)}):
        same_model, conditioning = apply(text=text, **settings)
        assert same_model is model
        assert equal_conditioning(conditioning, encode(clip, without_word))
    assert not equal_conditioning(apply(text=text)[1], encode(clip, without_word))


def test_a_mask_limits_both_parts_as_stock_nodes_would(acfun, loaded, apply, draw):
    model, clip = loaded
    mask = left_half()
    styled, conditioning = apply(mask=mask)
    inside = in_mask(acfun.embed(acfun.style(), clip, TEXT), mask)
    outside = in_mask(encode(clip, "a woman in style"), 1 - mask)
    stock = inside + outside
    assert equal_conditioning(conditioning, stock)
    chained = acfun.adapt(model, acfun.style(), mask=mask)
    assert torch.equal(draw(styled, conditioning), draw(chained, stock))
    assert not torch.allclose(draw(chained, inside), draw(chained, stock), atol=1e-3)


def test_the_prompt_acts_inside_the_mask_only(acfun, loaded, apply, draw):
    styled, conditioning = apply(mask=left_half(), balance=0.0)
    full, plain = apply(balance=0.0)[1], encode(loaded[1], "a woman in style")
    masked, full, plain = (draw(styled, c, steps=1) for c in (conditioning, full, plain))
    assert torch.equal(masked[..., :4], full[..., :4])
    assert torch.equal(masked[..., 4:], plain[..., 4:])
    assert not torch.allclose(full[..., 4:], plain[..., 4:], atol=1e-3)
    assert not torch.allclose(full[..., :4], plain[..., :4], atol=1e-3)


def test_a_white_mask_is_none_and_a_black_one_is_said(acfun, apply, draw):
    full, white = apply(), apply(mask=torch.ones(1, 9, 9))
    assert len(white[1]) == 1
    assert torch.allclose(draw(*white), draw(*full), atol=1e-4)
    acfun.texts.clear()
    apply(mask=torch.zeros(1, 9, 9))
    assert len(acfun.texts) == 1 and "mask is all black" in acfun.texts[0]


def test_two_people_each_under_their_own_style(acfun, loaded, apply, draw):
    """Each half of a step is what it would be under its own style and prompt alone."""
    model, (left, one, two) = loaded[0], (left_half(), acfun.style(), acfun.style("sd1", 1))
    texts = {"one": "a woman in S* style", "two": "a man in S* style"}
    first = apply(one, text=texts["one"], mask=left)
    both = apply(two, text=texts["two"], model=first[0], outside=first[1], mask=1 - left)
    assert len(both[1]) == 2  # The first one's plain prompt has no place left.
    picture = draw(*both, steps=1)
    masked = acfun.adapt(acfun.adapt(model, one, mask=left), two, mask=1 - left)
    for half, style, text in ((slice(4), one, "one"), (slice(4, None), two, "two")):
        alone = draw(masked, acfun.embed(style, loaded[1], texts[text]), steps=1)
        assert torch.allclose(picture[..., half], alone[..., half], atol=1e-3)
        swapped = apply(two if style is one else one, text=texts[text])[1]
        assert not torch.allclose(picture, draw(masked, swapped, steps=1), atol=1e-3)


def test_each_adapter_of_two_acts_in_its_own_half(acfun, loaded, apply):
    model, left = loaded[0], left_half()
    first = apply(mask=left)
    both = apply(acfun.style("sd1", 1), model=first[0], outside=first[1], mask=1 - left)
    alone = acfun.adapt(model, acfun.style(), mask=left)
    block, seen = model.model.diffusion_model.get_submodule("input_blocks.1.0"), []
    hook = block.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    try:
        for styled in (model, both[0], alone):
            sample(styled, encode(loaded[1], ""), encode(loaded[1], ""), steps=1)
    finally:
        hook.remove()
    plain, together, one = (output[:1] for output in seen)
    assert torch.equal(one[..., 4:], plain[..., 4:])
    assert torch.equal(together[..., :4], one[..., :4])
    assert not torch.allclose(plain[..., :4], one[..., :4], atol=1e-3)
    assert not torch.allclose(plain[..., 4:], together[..., 4:], atol=1e-3)


def test_outside_without_a_mask_is_said(acfun, loaded, apply):
    acfun.texts.clear()
    conditioning = apply(outside=encode(loaded[1], "a garden"))[1]
    assert equal_conditioning(conditioning, apply()[1])
    assert "outside is not used without a mask" in acfun.texts[0]


def test_masks_of_different_sizes_and_counts_are_laid_over_each_other(apply):
    first = apply(mask=torch.stack([left_half(32)[0], torch.ones(32, 32)]))
    both = apply(outside=first[1], mask=left_half(64))
    masks = [part[1]["mask"] for part in both[1]]
    assert [tuple(mask.shape) for mask in masks] == [(1, 64, 64), (2, 32, 32), (2, 32, 32)]
    assert not masks[1][0].any() and masks[1][1].mean() == 0.5
    assert masks[2][0].mean() == 0.5 and not masks[2][1].any()


def test_the_shared_model_and_the_outside_are_left_as_they_were(loaded, apply, draw):
    model, clip = loaded
    outside = in_mask(encode(clip, "a garden"), left_half(16))
    before = fingerprint(model.model), outside[0][1]["mask"].clone(), draw(model, outside)
    styled, conditioning = apply(outside=outside, mask=left_half())
    assert not torch.allclose(draw(styled, conditioning), before[2], atol=1e-3)
    assert fingerprint(model.model) == before[0]
    assert torch.equal(outside[0][1]["mask"], before[1])
    assert torch.equal(draw(model, outside), before[2])


def test_a_missing_word_and_missing_sockets_are_said(acfun, apply):
    acfun.texts.clear()
    apply(text="a woman")
    assert "does not hold this style's word S*" in acfun.texts[0]
    with pytest.raises(acfun.error, match="socket clip brings nothing"):
        apply(clip=None)
    with pytest.raises(acfun.error, match="socket model brings nothing"):
        apply(model=None)
