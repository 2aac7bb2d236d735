"""Blend ACFun Styles in a graph: applied, saved and loaded, with the two styles as the oracle."""

from __future__ import annotations

import pytest
import torch
from stock_nodes import encode, equal_conditioning, sample

TEXT = "a woman in S* style"


@pytest.fixture(scope="module")
def pair(acfun):
    return acfun.style(), acfun.style("sd1", 1)


@pytest.fixture
def blend(acfun, pair):
    def run(ratio=0.5, mode="blend", styles=pair):
        inputs = {"style_a": styles[0], "style_b": styles[1], "ratio": ratio, "mode": mode}
        return acfun.run("ACFunBlendStyles", **inputs)[0]

    return run


def test_the_ends_are_the_two_styles_byte_for_byte(acfun, pair, blend):
    for ratio, style in ((0.0, pair[0]), (1.0, pair[1])):
        assert acfun.bytes_of(blend(ratio)) == acfun.bytes_of(style)
    assert acfun.bytes_of(blend(0.5)) not in map(acfun.bytes_of, pair)


@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_the_prompt_lies_between_the_two(acfun, comfy, pair, blend, ratio):
    clip = comfy.checkpoint("sd1")[1]
    a, b, mixed = (acfun.embed(s, clip, TEXT)[0] for s in (*pair, blend(ratio)))
    assert torch.allclose(mixed[0], torch.lerp(a[0], b[0], ratio), atol=1e-4)
    assert not torch.allclose(a[0], b[0], atol=1e-2)
    pooled = (part[1]["pooled_output"] for part in (a, b, mixed))
    a, b, mixed = pooled
    assert torch.allclose(mixed, torch.lerp(a, b, ratio), atol=1e-4)


def test_one_block_gives_the_mean_of_what_the_two_would_give(acfun, comfy, pair, blend):
    """The first block with an insert has the same input under each style."""
    model, clip, _ = comfy.checkpoint("sd1")
    block, seen = model.model.diffusion_model.get_submodule("input_blocks.1.0"), []
    hook = block.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    try:
        for style in (*pair, blend(0.25)):
            prompts = encode(clip, ""), encode(clip, "")
            sample(acfun.adapt(model, style), *prompts, steps=1)
    finally:
        hook.remove()
    a, b, mixed = seen
    assert torch.allclose(mixed, torch.lerp(a, b, 0.25), atol=2e-2)
    assert not torch.allclose(mixed, torch.lerp(a, b, 0.5), atol=2e-2)


def test_abstract_of_one_and_concrete_of_the_other(acfun, comfy, pair, blend):
    model, clip, _ = comfy.checkpoint("sd1")
    cross = blend(mode="abstract of A, concrete of B")
    prompt = acfun.embed(cross, clip, TEXT)
    assert equal_conditioning(prompt, acfun.embed(pair[0], clip, TEXT))
    negative = encode(clip, "")
    picture = sample(acfun.adapt(model, cross), prompt, negative)[-1]
    assert torch.equal(picture, sample(acfun.adapt(model, pair[1]), prompt, negative)[-1])
    other = sample(acfun.adapt(model, pair[0]), prompt, negative)[-1]
    assert not torch.allclose(picture, other, atol=1e-2)


def test_a_saved_blend_draws_the_same_picture(acfun, comfy, blend):
    model, clip, _ = comfy.checkpoint("sd1")
    style = blend(0.4)
    acfun.run("ACFunSaveStyle", style=style, filename_prefix="blend")
    name = max(n for n in acfun.folder.style_names() if n.startswith("blend"))
    loaded = acfun.run("ACFunLoadStyle", style_file=name)[0]
    inputs = {"model": model, "clip": clip, "text": TEXT}
    drawn = [
        sample(*acfun.run("ACFunApplyStyle", style=s, **inputs), encode(clip, ""))[-1]
        for s in (style, loaded, blend(0.8))
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2], atol=1e-3)


def test_styles_of_two_families_are_refused_in_a_sentence(acfun, pair, blend):
    sdxl = acfun.style("sdxl")
    with pytest.raises(acfun.error, match="differ in their family: style_a has sd1, style_b sdxl"):
        blend(styles=(pair[0], sdxl))
    assert any("differ in their family" in text for text in acfun.texts)
