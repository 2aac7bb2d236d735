"""Training on every transformer: right gradients, learning, resuming, and no trace afterwards."""

from __future__ import annotations

import weakref
from contextlib import nullcontext

import comfy.model_management
import pytest
import torch
from pack_nodes import short_redrawing
from tiny_text_encoders import build_clip
from tiny_transformers import FAMILIES, TinyVAE, TinyVision, build_model, sample
from torch.nn import functional as F
from transformer_styles import SIDE, slopes, training_backbone

IN_PLACE = ("flux", "flux2", "chroma")


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_right_and_the_same_when_checkpointed(acfun, family):
    slope, difference, gradients = slopes(family)
    length = sum(float(g.double().square().sum()) for g in gradients) ** 0.5
    assert slope == pytest.approx(difference, abs=2e-3 * length)
    again = slopes(family, is_checkpointed=True)
    assert all(map(torch.equal, gradients, again[2]))


@pytest.mark.parametrize("family", [f for f in IN_PLACE if f in FAMILIES])
def test_without_the_guard_they_are_not(acfun, family, monkeypatch):
    from acfun_pack.nodes.comfyui import transformer_training

    monkeypatch.setattr(transformer_training, "_copy", lambda value: value)
    monkeypatch.setattr(transformer_training, "clones_for_norms", lambda block: nullcontext())
    try:
        slope, difference, _ = slopes(family, is_checkpointed=True)
    except RuntimeError:  # Where autograd finds it out.
        return
    assert slope != pytest.approx(difference, rel=2e-2)


def pair():
    from acfun_pack.acfun_ops.training.events import TrainImages

    generator = torch.Generator().manual_seed(3)
    images = [
        F.interpolate(torch.rand(1, 3, side, side, generator=generator), SIDE, mode="bilinear")
        for side in (24, 6)
    ]
    style, face = (image.movedim(1, -1) for image in images)
    return TrainImages(style=style, face=face)


def fit(family, on_event=lambda event: False, resume=None, model=None, **options):
    from acfun_pack.acfun_ops.training.config import TrainConfig
    from acfun_pack.acfun_ops.training.fit import fit
    from acfun_pack.acfun_ops.training.training_images import prepare_images

    settings = {"steps": 12, "learning_rate": 3e-3, "alignment": "staged", "rank": 4, "heads": 4}
    config = TrainConfig(**settings | {"preview_every": 0} | options)
    with training_backbone(family, model) as backbone:
        images = prepare_images(backbone, pair(), config, short_redrawing())
        return fit(backbone, images, config, on_event, resume)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_style_is_learnt_and_the_model_is_left_as_it_was(acfun, family):
    model = build_model(family)
    plain = sample(model, 1)
    settings = comfy.model_management
    kernels = settings.in_training, comfy.quant_ops.ck
    untaught = fit(family, model=model, steps=24, learning_rate=1e-12)
    result = fit(family, model=model, steps=24, learning_rate=3e-2, preview_every=10)
    assert result.outcome == "finished"
    assert sum(result.losses[-10:]) < 0.99 * sum(untaught.losses[-10:])
    assert all(state["scale.weight"].any() for state in result.style.concrete.values())
    assert result.style.facts.family == family
    assert torch.equal(sample(model, 1), plain)
    assert (settings.in_training, comfy.quant_ops.ck) == kernels


@pytest.mark.parametrize("family", ["zimage", "flux"])
def test_a_training_that_was_stopped_goes_on_to_the_same_bytes(acfun, family):
    from acfun_pack.acfun_ops.training.events import StepEvent

    whole = fit(family)
    stopped = fit(family, lambda event: isinstance(event, StepEvent) and event.step == 5)
    assert (stopped.outcome, stopped.style.facts.steps) == ("cancelled", 5)
    resumed = fit(family, resume=(stopped.style, stopped.state))
    assert resumed.style.digest == whole.style.digest
    checkpointed = fit(family, gradient_checkpointing="on").style
    for block, state in checkpointed.concrete.items():
        assert all(torch.equal(state[n], t) for n, t in whole.style.concrete[block].items())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_face_is_redrawn_by_the_models_attention(acfun, family, monkeypatch):
    from acfun_pack.acfun_ops.sampling import style_injection
    from acfun_pack.acfun_ops.training.events import RestylingEvent, WarningEvent
    from acfun_pack.nodes.comfyui.image_attention import ImageAttention

    events = []
    result = fit(family, events.append, alignment="drawn", steps=1)
    assert result.outcome == "finished"
    assert sum(isinstance(event, RestylingEvent) for event in events) == 8
    assert not any(isinstance(event, WarningEvent) for event in events)
    redrawn = result.state.kept["redrawn"]
    if family == "zimage":  # What is asked for again is what was kept.
        monkeypatch.setattr(style_injection, "MOST_BYTES", 0)
        again = fit(family, alignment="drawn", steps=1)
        assert torch.equal(again.state.kept["redrawn"], redrawn)
    show = ImageAttention._show

    def show_in_vain(self, attention, q, k, v, has_heads):
        show(self, attention, q.clone(), k.clone(), v.clone(), has_heads)
        return q, k, v

    monkeypatch.setattr(ImageAttention, "_show", show_in_vain)
    unstyled = fit(family, alignment="drawn", steps=1).state.kept["redrawn"]
    assert not torch.allclose(unstyled, redrawn, atol=1e-3)


def test_an_attention_that_is_split_falls_back_to_staged(acfun, monkeypatch):
    from acfun_pack.acfun_ops.training.events import WarningEvent
    from acfun_pack.nodes.comfyui.image_attention import ImageAttention

    monkeypatch.setattr(ImageAttention, "_show", lambda self, attention, q, k, v, heads: (q, k, v))
    events = []
    assert fit("zimage", events.append, alignment="drawn", steps=1).outcome == "finished"
    warnings = [event.text for event in events if isinstance(event, WarningEvent)]
    assert any("takes staged for alignment instead" in str(text) for text in warnings)


@pytest.mark.parametrize("family", ["anima", "flux"])
def test_an_error_in_a_training_leaves_no_trace(acfun, family, monkeypatch):
    model = build_model(family)
    plain, network = sample(model, 1), model.model.diffusion_model
    kernels = comfy.quant_ops.ck

    def fail(event):
        raise KeyError(event)

    with pytest.raises(KeyError):
        fit(family, fail, model=model, gradient_checkpointing="on")
    assert torch.equal(sample(model, 1), plain)
    assert comfy.quant_ops.ck is kernels and not comfy.model_management.in_training
    for module in network.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_the_backbone_goes_with_its_training_while_nothing_looks_for_circles(acfun, no_collector):
    from acfun_pack.nodes.comfyui.training_models import training_backbone as real_backbone

    model = build_model("zimage")
    others = build_clip("zimage"), TinyVAE(model), TinyVision()
    with real_backbone(model, *others, None) as backbone:
        backbone.encode_prompt("a face in S* style", "S*", backbone.word_vectors("style"))
    seen = weakref.ref(backbone)
    del backbone
    assert seen() is None


def test_guidance_gives_each_prompt_its_own_length(acfun):
    from acfun_pack.acfun_ops.sampling.sampler import batch_contexts, negative

    with training_backbone("zimage") as backbone, torch.no_grad():
        prompts = [backbone.encode_prompt(text, "S*", {}) for text in ("a", "")]
        noisy = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(2))
        both = backbone.denoise(noisy, 2.0, batch_contexts([prompts[0], negative(prompts[1])]))
        each = [backbone.denoise(noisy[i : i + 1], 2.0, prompts[i]) for i in range(2)]
    assert torch.equal(both, torch.cat(each))


def test_a_model_that_also_takes_an_image_is_refused(acfun):
    model = build_model("flux", in_channels=33)
    with (
        training_backbone("flux", model) as backbone,
        pytest.raises(acfun.error, match="also take"),
    ):
        backbone.encode_pictures(torch.zeros(1, SIDE, SIDE, 3))


def test_a_vae_of_another_family_is_refused(acfun):
    with training_backbone("flux2") as backbone, pytest.raises(acfun.error, match=r"vae is of ano"):
        backbone.vae = TinyVAE(build_model("flux"))
        backbone.encode_pictures(torch.zeros(1, SIDE, SIDE, 3))
