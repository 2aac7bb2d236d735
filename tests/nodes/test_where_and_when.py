"""Under which prompts the adapters act, and their strength over the sampling."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_custom_sampler, nodes_hooks
from comfy_extras.nodes_custom_sampler import Guider_DualCFG
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_perpneg import PerpNeg
from comfy_extras.nodes_sag import SelfAttentionGuidance
from stock_nodes import encode, sample

import nodes

SIDES = ["both", "positive only", "negative only"]


@pytest.fixture(scope="module")
def draw(prompts):
    return lambda model, **options: sample(model, *prompts, **options)[-1]


def guided(model, styled_positive, styled_negative):
    """Return a model whose every prediction is made of those of two models, as cfg does."""
    clone = model.clone()

    def predict(args):
        conds, x, sigma = args["conds"], args["input"], args["sigma"]
        base, options = args["model"], args["model_options"]
        predictions = []
        for side, styled in enumerate((styled_positive, styled_negative)):
            wrappers = {"wrappers": styled.wrappers} if styled is not model else {"wrappers": {}}
            mine = options | {"transformer_options": options["transformer_options"] | wrappers}
            both = comfy.samplers.calc_cond_batch(base, conds, x, sigma, mine)
            predictions.append(both[side])
        return predictions

    clone.set_model_sampler_calc_cond_batch_function(predict)
    return clone


@pytest.mark.parametrize("size", [None, (64, 64)])
@pytest.mark.parametrize("applies_to", SIDES)
def test_the_style_acts_under_the_named_prompts(acfun, model, draw, applies_to, size):
    mask = None if size is None else {"mask": torch.rand(1, *size).round()}
    styled = acfun.adapt(model, acfun.style(), **mask or {})
    parts = [styled if applies_to != other else model for other in (SIDES[2], SIDES[1])]
    limited = acfun.adapt(model, acfun.style(), applies_to=applies_to, **mask or {})
    picture = draw(limited, batch=2, steps=2)
    assert torch.allclose(picture, draw(guided(model, *parts), batch=2, steps=2), atol=1e-2)
    others = {draw(m, batch=2, steps=2).sum().item() for m in (model, styled)}
    if applies_to == "both":
        assert torch.equal(picture, draw(styled, batch=2, steps=2))
    else:
        swapped = draw(guided(model, *parts[::-1]), batch=2, steps=2)
        assert not torch.allclose(picture, swapped, atol=0.1)
        assert picture.sum().item() not in others


@pytest.mark.parametrize("applies_to", SIDES[1:])
def test_split_batches_give_the_same_picture(acfun, model, draw, applies_to, monkeypatch):
    limited = acfun.adapt(model, acfun.style(), applies_to=applies_to)
    whole = draw(limited, batch=2, steps=2)
    monkeypatch.setattr(type(model), "get_free_memory", lambda patcher, device: 0)
    assert torch.allclose(draw(limited, batch=2, steps=2), whole, atol=1e-3)


def one_by_one(model):
    """Return a model whose U-Net sees one picture and one prompt at a time."""

    def split(apply_model, call):
        inputs = zip(call["input"], call["timestep"], call["c"]["c_crossattn"], strict=True)
        options = {"transformer_options": call["c"]["transformer_options"]}
        parts = [apply_model(x[None], t[None], None, c[None], **options) for x, t, c in inputs]
        return torch.cat(parts)

    clone = model.clone()
    clone.set_model_unet_function_wrapper(split)
    return clone


@pytest.mark.parametrize("applies_to", SIDES[1:])
def test_prompts_are_known_when_another_pack_splits_the_batch(acfun, model, draw, applies_to):
    limited = acfun.adapt(model, acfun.style(), applies_to=applies_to)
    acfun.texts.clear()
    split, whole = draw(one_by_one(limited), batch=2, steps=2), draw(limited, batch=2, steps=2)
    assert torch.allclose(split, whole, atol=1e-3)
    assert acfun.texts == []


def test_prompts_that_cannot_be_told_apart_are_said_once(acfun, model, draw):
    def change(apply_model, call):
        parts = [
            apply_model(x[None], t[None], None, c[None] * 1.01, transformer_options=options)
            for options in [call["c"]["transformer_options"]]
            for x, t, c in zip(
                call["input"], call["timestep"], call["c"]["c_crossattn"], strict=True
            )
        ]
        return torch.cat(parts)

    limited = acfun.adapt(model, acfun.style(), applies_to="positive only")
    limited.set_model_unet_function_wrapper(change)
    acfun.texts.clear()
    draw(limited, batch=3)
    assert len(acfun.texts) == 1
    assert "nothing tells the positive from the negative" in acfun.texts[0]


def with_guider(model, positive, negative):
    """Sample with a stock guider that has its negative prompt first."""
    guider = Guider_DualCFG(model)
    guider.set_conds(positive, positive, negative)
    guider.set_cfg(3.0, 2.0)
    return guided_by(guider, model)


def guided_by(guider, model):
    latent = torch.zeros(1, 4, 8, 8)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 2)
    noise = comfy.sample.prepare_noise(latent, 5)
    with torch.inference_mode():
        return guider.sample(
            noise, latent, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True
        )


@pytest.mark.parametrize("negative", [False, True])
def test_samples_that_share_a_side_may_be_of_any_number(acfun, negative):
    from acfun_pack.nodes.comfyui.batch_view import are_negative

    options = {"cond_or_uncond": [int(negative)] * 2}
    assert are_negative(torch.zeros(3, 4, 8, 8), None, options) == (negative,) * 3


@pytest.mark.parametrize("applies_to", SIDES[:2])
def test_a_second_model_for_the_negative_stays_plain_with_positive_only(
    acfun, model, prompts, applies_to
):
    """The guider calls both models with the first one's wrappers."""
    limited = acfun.adapt(model, acfun.style(), applies_to=applies_to)
    seen = watched(limited)
    guider = nodes_custom_sampler.Guider_DualModel(limited, model.clone())
    guider.set_conds(*prompts)
    guider.set_cfg(3.0)
    guided_by(guider, model)
    assert [amount for _, amount in seen] == [1.0, float(applies_to == "both")] * 2


def watched(limited):
    """Return the prompt of each sample that a limited MODEL draws, with the style's amount."""
    seen = []
    adapter = limited.wrappers[WrappersMP.APPLY_MODEL]["acfun"][0].__self__
    original = adapter._amounts

    def look(x, t, context, *args):
        amounts = original(x, t, context, *args)
        seen.extend(zip(context.clone(), amounts, strict=True))
        return amounts

    adapter._amounts = look
    return seen


def test_a_guider_with_the_negative_first_is_understood(acfun, model, prompts):
    limited = acfun.adapt(model, acfun.style(), applies_to="negative only")
    seen = watched(limited)
    with_guider(limited, *prompts)
    negative = prompts[1][0][0][0]
    assert all(amount == torch.equal(prompt, negative) for prompt, amount in seen)
    assert [amount for _, amount in seen].count(1.0) == 2


def perp_neg(model, empty):
    return PerpNeg.execute(model, empty, 1.0).args[0]


EXTRA_CALLS = {
    "Perp-Neg": perp_neg,
    "PAG": lambda model, empty: PerturbedAttentionGuidance.execute(model, 3.0).args[0],
    "SAG": lambda model, empty: SelfAttentionGuidance.execute(model, 0.5, 2.0).args[0],
}


@pytest.mark.parametrize("applies_to", SIDES[1:])
@pytest.mark.parametrize("extra", EXTRA_CALLS)
def test_prompts_of_further_calls_are_understood(acfun, comfy, model, prompts, extra, applies_to):
    """Perp-Neg's empty prompt is one that no guider knows; it is no positive."""
    limited = acfun.adapt(model, acfun.style(), applies_to=applies_to)
    seen = watched(limited)
    with torch.inference_mode():
        changed = EXTRA_CALLS[extra](limited, encode(comfy.checkpoint("sd1")[1], ""))
    sample(changed, *prompts, steps=1)
    positive = prompts[0][0][0][0]
    of_positive = [torch.equal(prompt, positive) for prompt, _ in seen]
    expected = [float(is_it == (applies_to == "positive only")) for is_it in of_positive]
    assert [amount for _, amount in seen] == expected
    assert len(seen) == 3 and of_positive.count(True) == (2 if extra == "PAG" else 1)


def test_a_prompt_that_a_pack_has_made_anew_stays_on_its_side(acfun):
    from acfun_pack.nodes.comfyui.batch_view import View, _sides

    known = View(
        size=(8, 8),
        latent=torch.zeros(1, 4, 8, 8),
        crops=None,
        areas={},
        negative=frozenset("n"),
        positive=frozenset("p"),
    )
    calls = ["pn", "np", "p", "n", "?n", "??", "?p", "p?", "?"]
    sides = ["".join("+-"[s] for s in _sides([[{"uuid": u}] for u in c], known)) for c in calls]
    assert sides == ["+-", "-+", "+", "-", "+-", "+-", "-+", "+-", "-"]


@torch.inference_mode()
def in_area(conditioning, x):
    return nodes.ConditioningSetArea().append(conditioning, 32, 64, x, 0, 1.0)[0]


def test_areas_of_the_positive_leave_the_negative_plain(acfun, model, prompts):
    """ComfyUI copies a positive's area to the negative, with the positive's identity."""
    positive = in_area(prompts[0], 0) + in_area(prompts[0], 32)
    limited = acfun.adapt(model, acfun.style(), applies_to="positive only")
    drawn = [
        sample(m, positive, prompts[1], steps=1)[-1]
        for m in (limited, guided(model, acfun.adapt(model, acfun.style()), model))
    ]
    assert torch.allclose(*drawn, atol=1e-2)


def test_negative_only_without_a_negative_prompt_is_said(acfun, model, prompts):
    limited = acfun.adapt(model, acfun.style(), applies_to="negative only")
    guider = comfy.samplers.CFGGuider(limited)
    guider.set_conds(*prompts)
    guider.set_cfg(1.0)
    latent = torch.zeros(1, 4, 8, 8)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 2)
    acfun.texts.clear()
    with torch.inference_mode():
        guider.sample(
            comfy.sample.prepare_noise(latent, 5),
            latent,
            comfy.samplers.sampler_object("euler"),
            sigmas,
            disable_pbar=True,
        )
    assert len(acfun.texts) == 1 and "At cfg 1 there is no negative prompt" in acfun.texts[0]


@pytest.mark.parametrize("percent", [0.0, 0.5, 1.0])
def test_a_range_of_no_length_is_said(acfun, model, draw, percent):
    span = {"start_percent": percent, "end_percent": percent}
    acfun.style()
    acfun.texts.clear()
    styled = acfun.adapt(model, acfun.style(), **span)
    (text,) = acfun.texts
    assert text.startswith("start_percent equals end_percent, so the adapters act at one step at")
    is_due = percent == 0.5  # The second of three steps.
    assert torch.equal(draw(styled), draw(model)) != is_due
    acfun.texts.clear()
    acfun.adapt(model, acfun.style(), **span, strength=0.0)
    assert acfun.texts == []


EASES = {
    "constant": lambda over: 1.0,
    "fade in": lambda over: over,
    "fade out": lambda over: 1 - over,
    "fade in and out": lambda over: float(torch.sin(torch.tensor(over * torch.pi))),
}


@pytest.mark.parametrize("ease", EASES)
def test_ease_is_a_strength_at_each_step(acfun, model, draw, ease):
    """One step of a schedule is what a constant strength gives there."""
    sampling, start, end = model.get_model_object("model_sampling"), 0.2, 0.9
    for percent in (0.25, 0.5, 0.75):
        sigma = torch.tensor([sampling.percent_to_sigma(percent)])
        strength = EASES[ease]((percent - start) / (end - start))
        inputs = {"start_percent": start, "end_percent": end}
        eased = predict(acfun.adapt(model, acfun.style(), ease=ease, **inputs), sigma)
        constant = predict(acfun.adapt(model, acfun.style(), strength=strength), sigma)
        other = predict(acfun.adapt(model, acfun.style(), strength=strength + 0.3), sigma)
        assert torch.allclose(eased, constant, atol=0.02)
        assert (eased - constant).abs().max() < (other - constant).abs().max() / 10


@torch.inference_mode()
def predict(model, sigma):
    """Return the denoised latent of one call of the U-Net, without a sampler."""
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * sigma
    model.pre_run()
    try:
        context = torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(2))
        options = {"wrappers": model.wrappers, **model.model_options["transformer_options"]}
        return model.model.apply_model(x, sigma, c_crossattn=context, transformer_options=options)
    finally:
        model.cleanup()


def test_constant_is_bit_identical_to_no_ease(acfun, model, draw):
    plain = draw(acfun.adapt(model, acfun.style()))
    named = acfun.adapt(model, acfun.style(), ease="constant", applies_to="both")
    assert torch.equal(draw(named), plain)
    assert WrappersMP.PREDICT_NOISE not in named.wrappers
    eased = draw(acfun.adapt(model, acfun.style(), ease="fade in"))
    assert not torch.allclose(eased, plain, atol=1e-2)
    assert not torch.allclose(eased, draw(model), atol=1e-2)


@pytest.mark.parametrize("control", [{"applies_to": "positive only"}, {"ease": "fade out"}])
def test_apply_style_has_the_same_controls(acfun, comfy, model, draw, control):
    inputs = {"model": model, "clip": comfy.checkpoint("sd1")[1], "style": acfun.style()}
    styled = acfun.run("ACFunApplyStyle", **inputs, **control)[0]
    picture = draw(styled)
    assert torch.equal(picture, draw(acfun.adapt(model, acfun.style(), **control)))
    assert not torch.allclose(picture, draw(acfun.adapt(model, acfun.style())), atol=1e-2)


def test_the_shared_model_stays_plain(acfun, model, draw):
    before = draw(model)
    draw(acfun.adapt(model, acfun.style(), applies_to="negative only", ease="fade in and out"))
    assert torch.equal(draw(model), before)


def hooked(prompt, lora_name, strength):
    """Return a prompt with a stock LoRA hook whose keyframe sets its strength from the start."""
    hooks = nodes_hooks.CreateHookLora().create_hook(lora_name, 1.0, 0.0)[0]
    keyframe = nodes_hooks.CreateHookKeyframe().create_hook_keyframe(strength, 0.0)[0]
    hooks = nodes_hooks.SetHookKeyframes().set_hook_keyframes(hooks, keyframe)[0]
    return nodes_hooks.ConditioningSetProperties().set_properties(
        prompt, 1.0, "default", hooks=hooks
    )[0]


@pytest.mark.parametrize("applies_to", SIDES[:2])
def test_stock_hooks_keep_working(acfun, model, prompts, models_dir, applies_to):
    """A hook puts its prompt into a batch of its own."""
    limited = acfun.adapt(model, acfun.style(), applies_to=applies_to)
    lora_name = models_dir.name("lora")
    off, on = (sample(limited, hooked(prompts[0], lora_name, s), prompts[1])[-1] for s in (0, 1))
    assert torch.allclose(off, sample(limited, *prompts)[-1], atol=1e-3)
    assert not torch.allclose(off, on, atol=1e-3)
    plain = sample(model, hooked(prompts[0], lora_name, 1), prompts[1])[-1]
    assert not torch.allclose(on, plain, atol=1e-3)
