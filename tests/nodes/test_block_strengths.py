"""Strengths of single blocks, with a style that lacks those blocks' inserts as the oracle."""

from __future__ import annotations

import pytest
import torch
from comfy_extras import nodes_hooks
from pack_nodes import without_inserts
from stock_nodes import sample

OFF = ("input_blocks.1.", "output_blocks.0.")
TEXT = "input_blocks.1=0, output_blocks.0=0"


@pytest.fixture(scope="module")
def draw(prompts):
    return lambda model, positive=prompts[0]: sample(model, positive, prompts[1])[-1]


def left_half():
    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1
    return mask


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": left_half()},
        {"start_percent": 0.3, "ease": "fade out"},
        {"applies_to": "positive only", "encoder_strength": 0.5},
    ],
    ids=["alone", "mask", "range", "one prompt"],
)
def test_a_block_of_strength_0_is_one_without_its_insert(acfun, model, draw, options):
    style = acfun.style()
    found = draw(acfun.adapt(model, style, block_strengths=TEXT, **options))
    assert torch.equal(found, draw(acfun.adapt(model, without_inserts(style, *OFF), **options)))
    assert not torch.allclose(found, draw(acfun.adapt(model, style, **options)), atol=1e-3)


def test_it_acts_on_a_blend_and_under_stock_hooks(acfun, model, draw, prompts, models_dir):
    pair = (acfun.style(), acfun.style("sd1", 1))

    def blend(*styles):
        inputs = dict(zip(("style_a", "style_b"), styles, strict=True))
        return acfun.run("ACFunBlendStyles", **inputs)[0]

    hooks = nodes_hooks.CreateHookLora().create_hook(models_dir.name("lora"), 1.0, 0.0)[0]
    hooked = nodes_hooks.ConditioningSetProperties().set_properties(
        prompts[0], 1.0, "default", hooks=hooks
    )[0]
    found = draw(acfun.adapt(model, blend(*pair), block_strengths=TEXT), hooked)
    lacking = blend(*(without_inserts(style, *OFF) for style in pair))
    assert torch.allclose(found, draw(acfun.adapt(model, lacking), hooked), atol=1e-3)
    assert not torch.allclose(found, draw(acfun.adapt(model, blend(*pair)), hooked), atol=1e-2)


def test_the_parts_named_as_blocks_are_the_parts(acfun, model, draw):
    style = acfun.style()
    named = draw(acfun.adapt(model, style, block_strengths="output_blocks=0.5, input_blocks=2"))
    usual = draw(acfun.adapt(model, style, decoder_strength=0.5, encoder_strength=2.0))
    assert torch.equal(named, usual)
    assert not torch.equal(named, draw(acfun.adapt(model, style, block_strengths=" ")))


def test_nothing_that_acts_returns_the_very_model(acfun, model):
    off = "input_blocks=0, middle_block=0, output_blocks=0"
    assert acfun.adapt(model, acfun.style(), block_strengths=off) is model


def test_apply_acfun_style_takes_them_too(acfun, comfy, draw):
    model, clip = comfy.checkpoint("sd1")[:2]
    inputs = {"model": model, "clip": clip, "text": "a woman in S* style", "strength": 0.8}

    def drawn(style, **more):
        return draw(*acfun.run("ACFunApplyStyle", style=style, **inputs, **more))

    found = drawn(acfun.style(), block_strengths=TEXT)
    assert torch.equal(found, drawn(without_inserts(acfun.style(), *OFF)))
    assert not torch.allclose(found, drawn(acfun.style()), atol=1e-3)


@pytest.mark.parametrize("node", ["ACFunApplyAdapters", "ACFunApplyStyle"])
def test_a_name_that_fits_nothing_is_refused(acfun, comfy, node):
    model, clip = comfy.checkpoint("sd1")[:2]
    inputs = {"clip": clip} if node == "ACFunApplyStyle" else {}
    with pytest.raises(acfun.error, match=r"'input_blocks\.9', which none .*input_blocks\.1\.0"):
        acfun.run(
            node, model=model, style=acfun.style(), block_strengths="input_blocks.9=0", **inputs
        )
