"""Apply CFun Adapters on a model that other branches of a graph share."""

from __future__ import annotations

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from pack_nodes import without_inserts
from stock_nodes import encode, fingerprint, leftovers, sample, with_lora

PARTS = {
    "encoder_strength": "input_blocks",
    "middle_strength": "middle_block",
    "decoder_strength": "output_blocks",
}


@pytest.fixture(scope="module")
def draw(comfy):
    """Return a function that gives the denoised latents of each sampling step of a model."""
    clip = comfy.checkpoint("sd1")[1]
    conditionings = encode(clip, "a woman"), encode(clip, "")
    return lambda model, **options: sample(model, *conditionings, **options)


@pytest.fixture(scope="module")
def plain(draw, model):
    return draw(model)


def equal(one, other):
    return torch.equal(torch.stack(one), torch.stack(other))


def close(one, other, atol=1e-4):
    return torch.allclose(torch.stack(one), torch.stack(other), atol=atol)


@pytest.mark.parametrize(
    "strengths", [{"strength": 0.0}, dict.fromkeys(PARTS, 0.0)], ids=["overall", "every part"]
)
def test_strength_0_returns_the_very_model(acfun, model, strengths):
    assert acfun.adapt(model, acfun.style(), **strengths) is model
    one_part = strengths | {"middle_strength": 0.1, "strength": 0.1}
    assert acfun.adapt(model, acfun.style(), **one_part) is not model


def test_untrained_style_gives_the_same_picture_and_a_trained_one_another(
    acfun, model, draw, plain
):
    untrained = without_inserts(acfun.style(), *PARTS.values())
    assert equal(draw(acfun.adapt(model, untrained)), plain)
    assert not close(draw(acfun.adapt(model, acfun.style())), plain, atol=0.01)


def test_the_shared_model_is_left_as_it_was(acfun, model, draw, plain):
    before = fingerprint(model.model), model.wrappers, dict(model.model_options)
    styled = acfun.adapt(model, acfun.style())
    assert styled.model is model.model
    assert not equal(draw(styled), plain)
    assert (fingerprint(model.model), model.wrappers, dict(model.model_options)) == before
    assert leftovers(model.model) == []
    assert equal(draw(model), plain)


def test_a_failing_sampling_leaves_nothing_on_the_model(acfun, model, draw, plain):
    def fail(executor, *args, **kwargs):
        executor(*args, **kwargs)
        assert leftovers(model.model) != []
        raise ValueError("from a test")

    failing = acfun.adapt(model, acfun.style())
    failing.add_wrapper(WrappersMP.DIFFUSION_MODEL, fail)
    with pytest.raises(ValueError, match="from a test"):
        draw(failing)
    assert leftovers(model.model) == []
    assert equal(draw(model), plain)


def naive_insert(state):
    """Return CFun as the paper writes it: gamma(sigma(x)) * x + beta(sigma(x))."""
    weights = {name: tensor.float() for name, tensor in state.items()}

    def fuse(module, args, output):
        sigma = (output.float().var(dim=(2, 3), correction=0) + 1e-6).sqrt()
        hidden = sigma @ weights["down.weight"].T + weights["down.bias"]
        hidden = hidden * torch.sigmoid(hidden)
        gamma = 1 + hidden @ weights["scale.weight"].T + weights["scale.bias"]
        beta = hidden @ weights["shift.weight"].T + weights["shift.bias"]
        return gamma[:, :, None, None] * output + beta[:, :, None, None]

    return fuse


def draw_by_hand(draw, model, *styles):
    """Sample with the inserts of styles on the U-Net itself, the first style innermost."""
    unet = model.model.diffusion_model
    hooks = [
        unet.get_submodule(f"{block}.out_layers").register_forward_hook(naive_insert(state))
        for style in styles
        for block, state in style.concrete.items()
    ]
    try:
        return draw(model)
    finally:
        for hook in hooks:
            hook.remove()


def test_one_style_acts_as_the_formula_says(acfun, model, draw):
    style = acfun.style()
    assert len(style.concrete) == 8
    assert close(draw(acfun.adapt(model, style)), draw_by_hand(draw, model, style), atol=1e-3)


def test_two_styles_in_a_chain_compose(acfun, model, draw):
    one, two = acfun.style(), acfun.style("sd1", 1)
    chained = draw(acfun.adapt(acfun.adapt(model, one), two))
    assert close(chained, draw_by_hand(draw, model, one, two), atol=1e-3)
    assert not close(chained, draw_by_hand(draw, model, two, one), atol=0.01)
    assert not close(chained, draw_by_hand(draw, model, one), atol=0.01)
    assert not close(chained, draw_by_hand(draw, model, two), atol=0.01)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_has_a_strength_of_its_own(acfun, model, draw, plain, part):
    style = acfun.style()
    alone = draw(acfun.adapt(model, style, **{name: float(name == part) for name in PARTS}))
    others = [block for name, block in PARTS.items() if name != part]
    assert equal(alone, draw(acfun.adapt(model, without_inserts(style, *others))))
    assert not close(alone, plain, atol=1e-3)
    rest = draw(acfun.adapt(model, style, **{part: 0.0}))
    assert equal(rest, draw(acfun.adapt(model, without_inserts(style, PARTS[part]))))
    assert not close(alone, rest, atol=1e-3)


def test_strength_multiplies_the_parts(acfun, model, draw):
    style, halves = acfun.style(), dict.fromkeys(PARTS, 0.5)
    full = draw(acfun.adapt(model, style))
    assert equal(full, draw(acfun.adapt(model, style, strength=2.0, **halves)))
    assert not close(full, draw(acfun.adapt(model, style, **halves)), atol=1e-3)


def first_difference(one, other):
    """Return the first step in which two samplings differ, None if they are equal."""
    steps = range(len(one))
    return next((step for step in steps if not torch.equal(one[step], other[step])), None)


def test_start_and_end_follow_the_schedule(acfun, model, draw):
    sampling = model.get_model_object("model_sampling")
    sigmas = []

    def record(executor, x, t, *args, **kwargs):
        sigmas.append(float(t[0]))
        return executor(x, t, *args, **kwargs)

    recorded = model.clone()
    recorded.add_wrapper(WrappersMP.APPLY_MODEL, record)
    plain = draw(recorded, steps=4)
    limit = sampling.percent_to_sigma(0.5)
    above = sum(sigma > limit for sigma in sigmas)
    assert 0 < above < 4
    style = acfun.style()
    full = draw(acfun.adapt(model, style), steps=4)
    early = draw(acfun.adapt(model, style, end_percent=0.5), steps=4)
    late = draw(acfun.adapt(model, style, start_percent=0.5), steps=4)
    nothing = draw(acfun.adapt(model, style, end_percent=0.0), steps=4)
    assert first_difference(late, plain) == above
    assert first_difference(early, full) == above
    assert first_difference(early, plain) == 0
    assert first_difference(nothing, plain) is None
    assert first_difference(full, plain) == 0


@pytest.mark.parametrize("order", ["lora first", "lora last"])
def test_composes_with_a_lora(acfun, comfy, model, draw, models_dir, order):
    clip, style = comfy.checkpoint("sd1")[1], acfun.style()
    lora_name = models_dir.name("lora")
    with_only_lora = with_lora(model, clip, lora_name)[0]
    if order == "lora first":
        both = acfun.adapt(with_only_lora, style)
    else:
        both = with_lora(acfun.adapt(model, style), clip, lora_name)[0]
    picture = draw(both)
    assert close(picture, draw_by_hand(draw, with_only_lora, style), atol=1e-3)
    assert not close(picture, draw(with_only_lora), atol=1e-3)
    assert not close(picture, draw(acfun.adapt(model, style)), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_acts_on_half_precision_features(acfun, model, draw, plain, dtype):
    half = model.clone()
    half.set_model_compute_dtype(dtype)
    untrained = without_inserts(acfun.style(), *PARTS.values())
    picture = draw(half, steps=1)
    assert equal(draw(acfun.adapt(half, untrained), steps=1), picture)
    styled = draw(acfun.adapt(half, acfun.style()), steps=1)[0]
    full = draw(acfun.adapt(model, acfun.style()), steps=1)[0]
    assert torch.cosine_similarity(styled, full, dim=1).mean() > 0.98
    assert torch.cosine_similarity(styled, picture[0], dim=1).mean() < 0.9
    assert equal(draw(model, steps=1), plain[:1])
