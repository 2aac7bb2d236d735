"""The training loop: what it changes, what it tells, and that it is repeatable."""

from dataclasses import replace

import pytest
import torch
from tiny_backbone import TinyBackbone
from tiny_styles import tensors_of
from tiny_training import Recorder, run, small_config, tiny_pictures, trained, trained_bytes

from acfun_ops.errors import ACFunError
from acfun_ops.method.alignment_loss import ALIGNMENTS, SETTINGS, alignment_batch
from acfun_ops.method.diffusion import sample_sigma
from acfun_ops.sampling.style_injection import Restyler
from acfun_ops.style.style import style_bytes
from acfun_ops.training import fit
from acfun_ops.training.events import (
    PreviewEvent,
    RestylingEvent,
    SamplingEvent,
    StepEvent,
    WarningEvent,
)
from acfun_ops.training.styled_model import StyledModel
from acfun_ops.training.training_images import encode_images, prepare_images

TWO_ENCODERS = ("l", "g")


def changed(style, other):
    """Return the names of the tensors in which two styles differ."""
    one, two = tensors_of(style), tensors_of(other)
    return {name for name in one if not torch.equal(one[name], two[name])}


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_same_inputs_give_same_bytes_and_another_seed_others(alignment):
    config = small_config(alignment=alignment)
    first, again, other = (run(c).style for c in (config, config, replace(config, seed=1)))
    assert style_bytes(first) == style_bytes(again)
    assert changed(first, other) == tensors_of(first).keys() - {"style_tokens"}


def test_global_randomness_is_neither_used_nor_touched():
    state = torch.get_rng_state()
    config = small_config(preview_every=2, alignment="imagery", gradient_checkpointing="on")
    one = run(config)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12345)
    other = run(config)
    torch.set_rng_state(state)
    assert style_bytes(one.style) == style_bytes(other.style)


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_seed_is_taken(seed):
    assert run(small_config(steps=1, seed=seed)).style.facts.seed == seed


@pytest.mark.parametrize("encoders", [("l",), TWO_ENCODERS])
@pytest.mark.parametrize("insert_at", ["resblock", "attention"])
def test_every_trainable_moves_and_the_backbone_does_not(encoders, insert_at):
    backbone, fresh = TinyBackbone(encoders=encoders), TinyBackbone(encoders=encoders)
    config = small_config(insert_at=insert_at, dropout=0.0)
    first = run(replace(config, steps=1), TinyBackbone(encoders=encoders)).style
    last = run(config, backbone).style
    assert changed(last, first) == tensors_of(last).keys() - {"style_tokens"}
    for after, before in zip(backbone.models.parameters(), fresh.models.parameters(), strict=True):
        assert after.grad is None
        assert not after.requires_grad
        assert torch.equal(after, before)


def test_gradients_flow_through_the_context_and_not_through_the_latents():
    backbone, seen = TinyBackbone(), []
    denoise = backbone.denoise

    def spy(noisy, sigma, context):
        seen.append((noisy.requires_grad, context.tokens.requires_grad))
        return denoise(noisy, sigma, context)

    backbone.denoise = spy
    run(small_config(steps=2), backbone)
    assert seen == [(False, True), (False, True)]


def test_pseudo_word_moves_in_every_fourth_step():
    vectors = [trained(small_config(steps=n)).style.vectors["l"] for n in (1, 2, 4, 5, 8)]
    assert torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.equal(vectors[2], vectors[3])
    assert torch.equal(vectors[3], vectors[4])


def test_pseudo_word_starts_at_the_initial_word():
    backbone = TinyBackbone()
    near = run(small_config(steps=1, initial_word="oil")).style.vectors["l"].float()
    start = backbone.word_vectors("oil")["l"]
    # Its first step of AdamW is as long as its learning rate, four times the others'.
    assert (near - start).abs().max() < 4.2e-2
    assert (near - backbone.word_vectors("style")["l"]).abs().max() > 0.2


def test_model_is_as_before_even_when_the_listener_fails():
    backbone, context = TinyBackbone(), TinyBackbone().encode_prompt("a face", "S*", {})
    noisy, sigma = torch.ones(1, 4, 8, 8), 1.0
    with torch.no_grad():
        before = backbone.denoise(noisy, sigma, context)

    def fail(event):
        raise KeyboardInterrupt

    run(small_config(steps=2), backbone)
    with pytest.raises(KeyboardInterrupt):
        run(small_config(gradient_checkpointing="on"), backbone, on_event=fail)
    with torch.no_grad():
        assert torch.equal(backbone.denoise(noisy, sigma, context), before)
    assert not backbone.unet.checkpointed
    assert not any(module._forward_hooks for module in backbone.models.modules())


def test_steps_are_told_in_order_with_their_losses():
    events = Recorder()
    result = run(small_config(), on_event=events)
    assert [type(event) for event in events.events] == [StepEvent] * 6
    assert [(e.step, e.total) for e in events.events] == [(n, 6) for n in range(1, 7)]
    assert [e.loss for e in events.events] == result.losses
    assert (result.outcome, result.message) == ("finished", "Trained 6 steps.")
    assert result.style.facts.steps == result.state.step == 6


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (0, []),
        (1, [1, 2, 3, 4, 5, 6]),
        (2, [1, 2, 4, 6]),
        (4, [1, 4, 6]),
        (6, [1, 6]),
        (100, [1, 6]),
    ],
)
def test_previews_come_early_at_their_steps_and_at_the_end(every, expected):
    events = Recorder()
    run(small_config(preview_every=every), on_event=events)
    previews = events.of(PreviewEvent)
    assert [preview.step for preview in previews] == expected
    for preview in previews:
        place = events.events.index(preview)
        assert events.events[place - 1].step == preview.step
        assert preview.picture.shape == (1, 64, 64, 3)
        assert 0 <= preview.picture.min() < preview.picture.max() <= 1


def test_previews_show_progress_and_do_not_change_the_result():
    events = Recorder()
    result = run(small_config(preview_every=3), on_event=events)
    assert style_bytes(result.style) == trained_bytes(small_config())
    first, *_, last = (preview.picture for preview in events.of(PreviewEvent))
    assert not torch.equal(first, last)


@pytest.mark.parametrize("step", [1, 4, 5])
def test_cancelled_run_is_a_shorter_run(step):
    events = Recorder(stop_at=step)
    result = run(small_config(preview_every=1), on_event=events)
    assert result.outcome == "cancelled"
    assert result.message == f"Stopped after step {step} of 6."
    assert len(result.losses) == len(events.of(StepEvent)) == step
    assert style_bytes(result.style) == trained_bytes(small_config(steps=step))


def test_cancel_in_a_preview_stops_too():
    events = Recorder(stop_on=PreviewEvent)
    result = run(small_config(preview_every=2), on_event=events)
    assert (result.outcome, result.style.facts.steps) == ("cancelled", 1)


def test_cancel_while_a_preview_is_drawn_stops_at_once():
    told = []

    def listen(event):
        told.append(event)
        return isinstance(event, SamplingEvent) and told.count(event) == 2

    result = run(small_config(preview_every=2), on_event=listen)
    assert (result.outcome, result.style.facts.steps) == ("cancelled", 1)
    assert [type(event) for event in told] == [StepEvent, SamplingEvent, SamplingEvent]


@pytest.mark.parametrize("alignment", ["imagery", "drawn"])
def test_cancel_while_imagery_is_drawn_keeps_the_steps_before(alignment):
    config = small_config(alignment=alignment)
    whole = run(config)
    result = run(config, on_event=Recorder(stop_on=SamplingEvent))
    assert (result.outcome, result.style.facts.steps) == ("cancelled", 0)
    resumed = run(config, resume=(result.style, result.state))
    assert style_bytes(resumed.style) == style_bytes(whole.style)


def test_cancel_in_the_last_step_comes_too_late():
    result = run(small_config(), on_event=Recorder(stop_at=6))
    assert result.outcome == "finished"


def test_snapshot_is_the_run_so_far_and_stays():
    events = Recorder()
    snapshots = []

    def listen(event):
        if isinstance(event, StepEvent) and event.step == 3:
            snapshots.append(event.snapshot())
        return events(event)

    last = run(small_config(), on_event=listen)
    assert style_bytes(snapshots[0].style) == trained_bytes(small_config(steps=3))
    assert snapshots[0].state.step == 3
    assert snapshots[0].losses == last.losses[:3]


@pytest.mark.parametrize("alignment", ["staged", "paired"])
@pytest.mark.parametrize("prediction", ["noise", "v"])
def test_twenty_steps_lower_the_loss(alignment, prediction):
    config = small_config(
        steps=20, alignment=alignment, dropout=0.0, learning_rate=5e-3, rank=8, layers=2
    )
    backbone = TinyBackbone(prediction=prediction)
    backbone.sigmas = backbone.sigmas[900:901]  # one level, so that losses compare
    losses = run(config, backbone).losses
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_checkpointing_changes_memory_only():
    results = [run(small_config(gradient_checkpointing=g)) for g in ("on", "off", "auto")]
    assert results[0].losses == results[1].losses == results[2].losses
    assert len({style_bytes(result.style) for result in results}) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precision_is_that_of_the_unet_alone(precision):
    seen = set()
    backbone = TinyBackbone()
    backbone.unet.head.register_forward_hook(lambda m, args, output: seen.add(output.dtype))
    result = run(small_config(precision=precision), backbone)
    expected = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert seen == {expected}
    assert result.style.facts.settings["precision"] == str(expected).removeprefix("torch.")
    assert all(loss == loss and loss < 1e3 for loss in result.losses)
    assert {tensor.dtype for tensor in result.state.weights.values()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in result.state.weights.values())
    assert bool(result.state.scaler) == (precision == "fp16")
    exact = trained(small_config(precision="fp32"))
    assert result.losses == pytest.approx(exact.losses, rel=0.05)


def test_auto_precision_is_the_models_own():
    config = small_config(precision="auto")
    for dtype in (torch.float32, torch.bfloat16):
        result = run(config, TinyBackbone(compute_dtype=dtype))
        assert result.style.facts.settings["precision"] == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize(
    "change",
    [
        {"alignment": "paired"},
        {"style_weight": 0.1},
        {"face_weight": 0.1},
        {"dropout": 0.5},
        {"statistics": "mean_std"},
        {"prompt": "a photo of a man in S* style"},
        {"learning_rate": 1e-3},
        {"heads": 1},
        {"initial_word": "oil"},
    ],
)
def test_every_option_has_an_effect(change):
    other = run(small_config(steps=3, **change)).style
    assert changed(trained(small_config(steps=3)).style, other)


@pytest.mark.parametrize("pictures", [{"styles": 2}, {"faces": 2}, {"masked": True}])
def test_several_pictures_and_a_mask_have_an_effect(pictures):
    several = run(small_config(), pictures=tiny_pictures(**pictures)).style
    assert changed(trained(small_config()).style, several)


def test_all_style_and_face_pictures_are_drawn_from():
    backbone, seen = TinyBackbone(), []
    denoise = backbone.denoise
    latents = backbone.encode_pictures(tiny_pictures(styles=3).style)

    def spy(noisy, sigma, context):
        seen.append(int((latents - noisy[:1]).square().sum(dim=(1, 2, 3)).argmin()))
        return denoise(noisy, sigma, context)

    backbone.denoise, backbone.sigmas = spy, backbone.sigmas[:1]
    run(small_config(steps=20), backbone, tiny_pictures(styles=3))
    assert set(seen) == {0, 1, 2}


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_step_is_eq_1_and_4_to_the_letter_except_in_ours(alignment):
    """The first step's loss, from what the model was asked and what it answered (no style yet)."""
    backbone, seen = TinyBackbone(), []
    style, face = (
        backbone.encode_pictures(picture)
        for picture in (tiny_pictures().style, tiny_pictures().face[:, 8:72])
    )
    denoise = backbone.denoise

    def spy(noisy, sigma, context):
        denoised = denoise(noisy, sigma, context)
        if torch.is_grad_enabled():
            seen.append((noisy, sigma, denoised.detach()))
        return denoised

    backbone.denoise = spy
    config = small_config(steps=1, alignment=alignment, style_weight=0.7, face_weight=1.1)
    loss = run(config, backbone).losses[0]
    (noisy, sigma, denoised) = seen[0]
    predicted = (noisy - denoised) / sigma

    def error(row, target):  # Eq. 1: noise against its prediction.
        return float((predicted[row] - (noisy[row] - target[0]) / sigma).square().mean())

    if alignment == "paired":
        expected = 0.7 * error(0, style) + 1.1 * error(1, face)
        noise = (noisy - torch.cat([style, face])) / sigma
    else:
        shares = [(0.7 * error(row, style) + 1.1 * error(row, face)) / 2 for row in (0, 1)]
        expected = sum(shares)
        blend = (0.7 * style + 1.1 * face) / 1.8
        noise = (noisy - blend) / sigma
    assert (loss == pytest.approx(expected, rel=1e-3)) == (alignment not in ("staged", "drawn"))
    if alignment in ("paired", "blend"):
        generator = torch.Generator().manual_seed(config.seed)
        drawn = white_noise_after_the_weights(config, backbone, generator)
        assert torch.allclose(noise, drawn, atol=1e-4)


def white_noise_after_the_weights(config, backbone, generator):
    """What a run samples for its first noise if it is white and nothing else is sampled for it."""
    StyledModel(
        backbone,
        encode_images(backbone, prepare_images(backbone, tiny_pictures(), config)),
        config,
        generator,
    )
    sample_sigma(backbone.sigmas, 0, generator)
    for _ in range(2):
        torch.randint(1, (1,), generator=generator)
    return torch.randn(2, 4, 8, 8, generator=generator)


@pytest.mark.parametrize(
    ("styles", "faces"),
    [(1, 1), (3, 1), (1, 2), (3, 2), (1, 12)],
)
def test_drawn_is_drawn_once_by_the_model_without_the_style(styles, faces):
    backbone, asked = TinyBackbone(), []
    denoise = backbone.denoise

    def spy(noisy, sigma, context):
        hooks = any(p.module._forward_hooks for p in backbone.insert_points("resblock").values())
        asked.append((torch.is_grad_enabled(), hooks, len(noisy)))
        return denoise(noisy, sigma, context)

    backbone.denoise = spy
    config = small_config(alignment="drawn")
    pictures = tiny_pictures(styles=styles, faces=faces)
    kept = run(config, backbone, pictures).state.kept["redrawn"]
    assert len(kept) == max(styles, faces)
    drawing = asked[: -config.steps]
    assert {(grad, hooks) for grad, hooks, _ in drawing} == {(False, False)}
    assert asked[-config.steps :] == [(True, True, 2)] * config.steps
    samples, steps = sum(count for *_, count in drawing), SETTINGS.redrawing.steps
    assert samples == (styles + faces) * (steps + 1) + len(kept) * 2 * steps


@pytest.mark.parametrize("faces", [1, 2])
def test_redrawing_tells_each_of_its_steps_before_the_first_of_training(faces):
    told = []
    config = small_config(alignment="drawn", steps=1)
    run(config, pictures=tiny_pictures(faces=faces), on_event=lambda event: told.append(event))
    total = SETTINGS.redrawing.steps + 1 + (2 * SETTINGS.redrawing.steps + 1) * faces
    assert told[:-1] == [RestylingEvent(step, total) for step in range(1, total + 1)]
    assert isinstance(told[-1], StepEvent)


@pytest.mark.parametrize(("faces", "styles"), [(1, 3), (2, 1)])
def test_drawn_takes_the_picture_of_its_own_style_and_face(monkeypatch, faces, styles):
    seen = []

    def spy(alignment, style, face, *rest):
        seen.append((style, face, rest[3]))
        return alignment_batch(alignment, style, face, *rest)

    monkeypatch.setattr(fit, "alignment_batch", spy)
    config = small_config(steps=20, alignment="drawn")
    run(config, pictures=tiny_pictures(styles=styles, faces=faces))
    backbone = TinyBackbone()
    plain = backbone.encode_prompt("", "S*", {})
    prompt = backbone.encode_prompt(config.prompt, "S*", backbone.word_vectors("style"))
    assert len({float(style.sum()) for style, _, _ in seen}) == styles
    restyler = Restyler(backbone, plain, prompt, SETTINGS.redrawing)
    expected = {}
    for style, face, imagery in seen:
        pair = float(style.sum()), float(face.sum())
        if pair not in expected:
            expected[pair] = restyler.restyle(restyler.invert(style), restyler.invert(face))
        assert torch.allclose(imagery, expected[pair], atol=1e-5)


def test_imagery_is_drawn_anew_now_and_then():
    backbone, samples = TinyBackbone(), []
    denoise = backbone.denoise

    def spy(noisy, sigma, context):
        samples.append(not torch.is_grad_enabled())
        return denoise(noisy, sigma, context)

    backbone.denoise = spy
    run(small_config(steps=SETTINGS.imagery_every + 1, alignment="imagery"), backbone)
    trained = [place for place, sampled in enumerate(samples) if not sampled]
    assert samples[0]
    assert trained[-1] - trained[-2] > 1
    assert trained[0] == trained[-1] - trained[-2] - 1 == 10


def test_unusable_pictures_stop_before_anything_is_told():
    events, pictures = Recorder(), replace(tiny_pictures(), face=torch.zeros(0, 64, 64, 3))
    with pytest.raises(ACFunError, match="face_image is an empty batch"):
        run(small_config(), pictures=pictures, on_event=events)
    assert events.events == []
    assert events.of(WarningEvent) == []
