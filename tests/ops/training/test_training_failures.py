"""Runs that go wrong: memory runs out, the loss is not finite. What they keep and what they say."""

import re

import pytest
import torch
from tiny_backbone import Faults, TinyBackbone
from tiny_styles import tensors_of
from tiny_training import (
    Recorder,
    cancelled,
    run,
    small_config,
    tiny_pictures,
    trained,
    trained_bytes,
)

from acfun_ops.errors import ACFunError
from acfun_ops.style.style import style_bytes
from acfun_ops.training.events import PreviewEvent, StepEvent, WarningEvent


def failing(**faults):
    return TinyBackbone(faults=Faults(**faults))


@pytest.mark.parametrize("call", [1, 2, 5])
@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("alignment", ["staged", "imagery"])
def test_memory_running_out_turns_checkpointing_on_and_changes_nothing(
    call, in_backward, alignment
):
    events, config = Recorder(), small_config(alignment=alignment)
    backbone = failing(memory_at=call, memory_in_backward=in_backward)
    result = run(config, backbone, on_event=events)
    assert result.outcome == "finished"
    assert style_bytes(result.style) == trained_bytes(config)
    assert [e.text for e in events.of(WarningEvent)] == [
        "Out of memory: gradient checkpointing is now on."
    ]
    assert events.events.index(events.of(WarningEvent)[0]) == call - 1
    assert backbone.calls == config.steps + 1
    assert not backbone.unet.checkpointed


@pytest.mark.parametrize("call", [1, 4, 6])
@pytest.mark.parametrize("in_backward", [False, True])
def test_memory_running_out_without_checkpointing_keeps_the_last_weights(call, in_backward):
    config = small_config(gradient_checkpointing="off")
    backbone = failing(memory_at=call, memory_in_backward=in_backward)
    result = run(config, backbone)
    assert result.outcome == "out of memory"
    assert f"in the step after {call - 1} of 6. Lower resolution, turn gradient" in result.message
    assert result.style.facts.steps == result.state.step == len(result.losses) == call - 1
    if call > 1:
        assert style_bytes(result.style) == trained_bytes(small_config(steps=call - 1))
    resumed = run(config, resume=(result.style, result.state))
    assert style_bytes(resumed.style) == trained_bytes(config)


def test_memory_that_is_never_enough_ends_the_run_after_one_retry():
    backbone, events = TinyBackbone(), Recorder()

    def denoise(noisy, sigma, context):
        raise torch.OutOfMemoryError

    backbone.denoise = denoise
    result = run(small_config(), backbone, on_event=events)
    assert (result.outcome, result.style.facts.steps) == ("out of memory", 0)
    assert len(events.of(WarningEvent)) == 1


def test_other_errors_are_not_taken_for_memory():
    backbone = TinyBackbone()

    def denoise(noisy, sigma, context):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    backbone.denoise = denoise
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(small_config(), backbone)


def test_memory_running_out_while_i_i_is_drawn_is_told_and_nothing_is_learnt():
    config, events = small_config(alignment="drawn"), Recorder()
    with pytest.raises(ACFunError, match="while the face was redrawn"):
        run(config, failing(memory_in_previews=True), on_event=events)
    assert events.of(StepEvent) == []


def test_an_attention_that_runs_in_tiles_makes_drawn_staged_and_says_so():
    backbone, events = TinyBackbone(), Recorder()
    attention = backbone.unet.own
    attend = attention.forward
    attention.forward = lambda x: torch.cat([attend(half) for half in x.chunk(2, dim=2)], dim=2)
    result = run(small_config(alignment="drawn"), backbone, on_event=events)
    (notice,) = events.of(WarningEvent)
    assert "splits the batch of its self-attention" in notice.text
    assert notice.text.endswith("This training takes staged for alignment instead.")
    assert result.losses == run(small_config(), backbone).losses
    assert "redrawn" not in result.state.kept


def test_memory_running_out_in_a_preview_turns_previews_off():
    events, config = Recorder(), small_config(preview_every=2)
    result = run(config, failing(memory_in_previews=True), on_event=events)
    assert result.outcome == "finished"
    assert style_bytes(result.style) == trained_bytes(config)
    assert events.of(PreviewEvent) == []
    assert [type(event) for event in events.events[:3]] == [StepEvent, WarningEvent, StepEvent]
    assert [e.text for e in events.of(WarningEvent)] == [
        "Out of memory in a preview: previews are now off."
    ]


def test_other_errors_in_a_preview_are_not_hidden():
    backbone = TinyBackbone()

    def decode_latents(latents):
        raise RuntimeError("no VAE")

    backbone.decode_latents = decode_latents
    with pytest.raises(RuntimeError, match="no VAE"):
        run(small_config(preview_every=1), backbone)


def expected_message(bad, kept):
    return rf"At step {bad}: The loss is not finite.*weights of step {kept} are kept\. Lower learn"


@pytest.mark.parametrize("fault", ["nan_at", "bad_gradient_at"])
@pytest.mark.parametrize("call", [3, 4, 6])
def test_divergence_returns_to_the_last_weights_with_a_finite_loss(fault, call):
    result = run(small_config(), failing(**{fault: call}))
    assert result.outcome == "diverged"
    assert re.search(expected_message(call, call - 2), result.message)
    assert result.state is None
    # Step n - 1 moved the weights to where step n's loss is NaN; step n - 2's gave a finite one.
    shorter = trained(small_config(steps=call - 2))
    assert style_bytes(result.style) == style_bytes(shorter.style)
    assert result.losses == shorter.losses


@pytest.mark.parametrize("call", [1, 2])
def test_divergence_at_once_keeps_the_untrained_style(call):
    result = run(small_config(), failing(nan_at=call))
    assert (result.outcome, result.style.facts.steps, result.losses) == ("diverged", 0, [])
    assert re.search(expected_message(call, 0), result.message)
    tensors = tensors_of(result.style)
    zero = {name for name, tensor in tensors.items() if not tensor.any()}
    assert {"afun.layers.0.out.weight", "cfun.middle_block.0.scale.weight"} <= zero
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("call", [1, 2])
def test_divergence_right_after_resuming_keeps_what_was_resumed(with_state, call):
    config = small_config(steps=8)
    first = cancelled(config, 5)
    resume = (first.style, first.state if with_state else None)
    result = run(config, failing(nan_at=call), resume=resume)
    assert re.search(expected_message(4 + call + 1, 5), result.message)
    assert result.style.facts.steps == 5
    assert style_bytes(result.style) == style_bytes(first.style)
    assert result.losses == (first.losses if with_state else [])


def test_gradient_overflow_in_fp16_is_no_divergence():
    config = small_config(precision="fp16")
    result = run(config, failing(bad_gradient_at=3))
    assert result.outcome == "finished"
    assert result.state.scaler["scale"] < trained(config).state.scaler["scale"]


def test_overflow_in_every_step_of_fp16_is_divergence_with_advice():
    backbone = failing(bad_gradient_from=3)
    shorter = cancelled(small_config(precision="fp16"), 2)
    result = run(small_config(precision="fp16"), backbone)
    assert (result.outcome, result.style.facts.steps, len(result.losses)) == ("diverged", 2, 2)
    assert re.search("At step 3: .*fp16.*bf16 or fp32", result.message)
    assert style_bytes(result.style) == style_bytes(shorter.style)
    assert backbone.calls == 2 + 8


def test_memory_running_out_before_the_first_step_is_said():
    backbone = TinyBackbone()

    def encode_pictures(pictures):
        raise torch.OutOfMemoryError

    backbone.encode_pictures = encode_pictures
    with pytest.raises(ACFunError, match="Out of memory while the pictures were encoded"):
        run(small_config(), backbone)


def test_divergence_in_fp16_is_one():
    assert run(small_config(precision="fp16"), failing(nan_at=3)).outcome == "diverged"


def test_a_learning_rate_far_too_high_diverges_politely_or_trains():
    pictures = tiny_pictures()
    huge = run(small_config(learning_rate=1.0, steps=20), pictures=pictures)
    assert huge.outcome in ("finished", "diverged")
    assert all(torch.isfinite(tensor).all() for tensor in tensors_of(huge.style).values())
