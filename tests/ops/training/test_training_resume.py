"""Resuming: to the same bytes with the training state, and honestly without."""

from dataclasses import replace

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
from acfun_ops.method.alignment_loss import ALIGNMENTS
from acfun_ops.style.style import style_bytes
from acfun_ops.style.style_file import load_style, save_style
from acfun_ops.training.checkpoint import load_state, save_state
from acfun_ops.training.events import RestylingEvent, StepEvent, WarningEvent


def resumed_bytes(config, step, **kwargs):
    """Return the bytes of a run that was cancelled at a step and gone on with."""
    first = run(config, on_event=Recorder(stop_at=step), **kwargs)
    events = Recorder()
    last = run(config, on_event=events, resume=(first.style, first.state), **kwargs)
    assert events.of(WarningEvent) == []
    assert [e.step for e in events.of(StepEvent)] == list(range(step + 1, config.steps + 1))
    assert len(last.losses) == config.steps
    assert last.losses[:step] == first.losses
    return style_bytes(last.style)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_cancelled_and_resumed_is_uninterrupted(alignment):
    config = small_config(steps=9, alignment=alignment)
    whole = trained_bytes(config)
    for step in (1, 3, 4, 6):
        assert resumed_bytes(config, step) == whole, step


def test_the_state_of_a_namesake_is_not_taken():
    config, events = small_config(), Recorder()
    first = cancelled(config, 2)
    other = run(config, TinyBackbone(seed=5), on_event=Recorder(stop_at=2))
    namesake = replace(other.state, run=first.state.run)
    assert first.state.belongs_to(first.style) and not namesake.belongs_to(first.style)
    run(config, on_event=events, resume=(first.style, namesake))
    assert "its training state is missing" in events.of(WarningEvent)[0].text


def test_imagery_drawn_later_is_resumed_too():
    config = small_config(steps=28, alignment="imagery")
    whole = trained_bytes(config)
    assert resumed_bytes(config, 25) == whole
    assert resumed_bytes(config, 27) == whole


def test_drawn_is_drawn_again_without_the_style_where_the_state_is_missing():
    config, backbone = small_config(steps=9, alignment="drawn"), TinyBackbone()
    first = cancelled(config, 6)
    last = run(config, backbone, resume=(first.style, None))
    assert torch.equal(last.state.kept["redrawn"], first.state.kept["redrawn"])


def test_a_stop_in_the_drawing_of_a_resumed_run_leaves_a_state_to_go_on_from():
    config = small_config(steps=9, alignment="drawn")
    first = cancelled(config, 6)

    def stop(event):
        return isinstance(event, RestylingEvent)

    stopped = run(config, on_event=stop, resume=(first.style, None))
    assert (stopped.outcome, stopped.style.facts.steps, stopped.state.step) == ("cancelled", 6, 6)
    assert stopped.state.belongs_to(stopped.style)
    gone_on = run(config, resume=(stopped.style, stopped.state))
    assert style_bytes(gone_on.style) == style_bytes(run(config, resume=(first.style, None)).style)


def test_what_older_files_hold_as_drawn_is_not_taken():
    config = small_config(steps=4, alignment="drawn")
    given = {"pictures": tiny_pictures(faces=2)}
    first = run(config, on_event=Recorder(stop_at=2), **given)
    kept = {name: t for name, t in first.state.kept.items() if name in ("prompt", "pooled")}
    kept["drawn"] = torch.zeros(2, 4, 8, 8)
    last = run(config, resume=(first.style, replace(first.state, kept=kept)), **given)
    assert style_bytes(last.style) == style_bytes(run(config, **given).style)


@pytest.mark.parametrize("kept", ["imagery", "prompt"])
def test_what_is_kept_beside_the_weights_matters(kept):
    config = small_config(steps=9, alignment="imagery")
    first = cancelled(config, 6)
    tensors = {name: tensor for name, tensor in first.state.kept.items() if name != kept}
    last = run(config, resume=(first.style, replace(first.state, kept=tensors)))
    assert style_bytes(last.style) != trained_bytes(config)


@pytest.mark.parametrize(
    ("pictures", "backbone", "changes"),
    [
        ({"styles": 3, "faces": 2}, {}, {}),
        ({"faces": 2, "masked": True}, {}, {}),
        ({}, {"encoders": ("l", "g")}, {}),
        ({}, {"prediction": "v"}, {}),
        ({}, {}, {"precision": "fp16"}),
        ({}, {}, {"precision": "bf16"}),
        ({}, {}, {"insert_at": "attention", "statistics": "mean_std"}),
        ({}, {}, {"preview_every": 3}),
        ({}, {}, {"gradient_checkpointing": "on"}),
    ],
    ids=["pictures", "masks", "sdxl", "v", "fp16", "bf16", "ablations", "previews", "checkpointed"],
)
def test_every_kind_of_run_resumes(pictures, backbone, changes):
    config = small_config(steps=7, **changes)
    given = {"pictures": tiny_pictures(**pictures), "backbone": TinyBackbone(**backbone)}
    assert resumed_bytes(config, 5, **given) == style_bytes(run(config, **given).style)


def test_resuming_through_files_and_several_times(tmp_path):
    config = small_config(steps=9, precision="fp16")
    resume = None
    for step in (2, 3, 7):
        part = run(config, on_event=Recorder(stop_at=step), resume=resume)
        save_style(part.style, tmp_path / "style")
        save_state(part.state, tmp_path / "state")
        resume = load_style(tmp_path / "style"), load_state(tmp_path / "state")
    assert style_bytes(run(config, resume=resume).style) == trained_bytes(config)


@pytest.mark.parametrize("call", [1, 3, 5])
def test_snapshot_of_a_run_interrupted_within_a_step_resumes(call):
    config, events = small_config(steps=6, alignment="imagery"), Recorder()
    backbone = TinyBackbone()
    denoise = backbone.denoise

    def interrupted(noisy, sigma, context):
        if backbone.calls == call and torch.is_grad_enabled():
            raise KeyboardInterrupt
        return denoise(noisy, sigma, context)

    backbone.denoise = interrupted
    with pytest.raises(KeyboardInterrupt):
        run(config, backbone, on_event=events)
    snapshot = events.of(StepEvent)[-1].snapshot()
    assert snapshot.state.step == call
    last = run(config, resume=(snapshot.style, snapshot.state))
    assert style_bytes(last.style) == trained_bytes(config)


def test_snapshot_of_a_run_interrupted_while_weights_move_is_the_step_before(monkeypatch):
    config, events, calls = small_config(steps=6), Recorder(), []
    move = torch.optim.AdamW.step

    def interrupted(adamw, *arguments):
        move(adamw, *arguments)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config, on_event=events)
        snapshot = events.of(StepEvent)[-1].snapshot()
    assert snapshot.state is None  # Its moments have moved, and are not known any more.
    before = run(config, on_event=Recorder(stop_at=2)).style
    assert style_bytes(snapshot.style) == style_bytes(before)


def test_finished_run_goes_on_when_steps_are_raised():
    first = run(small_config(steps=4))
    last = run(small_config(steps=9), resume=(first.style, first.state))
    assert style_bytes(last.style) == trained_bytes(small_config(steps=9))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_without_state_it_says_so_and_counts_on(alignment):
    config, events = small_config(steps=9, alignment=alignment), Recorder()
    first = cancelled(config, 6)
    last = run(config, on_event=events, resume=(first.style, None))
    assert [type(e) for e in events.events] == [WarningEvent] + [StepEvent] * 3
    assert "training state is missing, so the optimiser starts anew" in events.events[0].text
    assert "steps count from 6" in events.events[0].text
    assert [e.step for e in events.of(StepEvent)] == [7, 8, 9]
    assert (last.outcome, last.style.facts.steps, len(last.losses)) == ("finished", 9, 3)
    assert style_bytes(last.style) != trained_bytes(config)


def test_without_state_it_starts_from_the_style_s_weights_and_repeats():
    config = small_config(steps=9, learning_rate=1e-4)
    first = cancelled(config, 6)
    last = run(replace(config, steps=7), resume=(first.style, None))
    again = run(replace(config, steps=7), resume=(first.style, None))
    assert style_bytes(last.style) == style_bytes(again.style)
    before, after = tensors_of(first.style), tensors_of(last.style)
    moved = max(float((after[n].float() - before[n].float()).abs().max()) for n in before)
    assert 0 < moved < 1e-3


@pytest.mark.parametrize("alignment", ["staged", "imagery"])
def test_without_state_memory_running_out_changes_nothing(alignment):
    config = small_config(steps=9, alignment=alignment)
    style = cancelled(config, 6).style
    undisturbed = run(config, resume=(style, None))
    disturbed = run(config, TinyBackbone(faults=Faults(memory_at=1)), resume=(style, None))
    assert style_bytes(disturbed.style) == style_bytes(undisturbed.style)


@pytest.mark.parametrize("field", ["run", "step"])
def test_state_of_another_run_or_step_is_not_used(field):
    config, events = small_config(steps=9), Recorder()
    first = cancelled(config, 6)
    wrong = {"run": "f" * 16, "step": 5}[field]
    state = replace(first.state, **{field: wrong})
    run(config, on_event=events, resume=(first.style, state))
    assert "training state is missing" in events.of(WarningEvent)[0].text


@pytest.mark.parametrize("part", ["weights", "moments", "generator"])
def test_state_that_does_not_fit_is_done_without_and_said(part):
    config, events = small_config(steps=9), Recorder()
    first = cancelled(config, 6)
    wrong = {
        "weights": {"abstract.layers.0.old": torch.zeros(1)},
        "moments": {name: torch.zeros(1) for name in first.state.moments},
        "generator": torch.zeros(3, dtype=torch.uint8),
    }[part]
    state = replace(first.state, **{part: wrong})
    last = run(config, on_event=events, resume=(first.style, state))
    assert "does not fit this training" in events.of(WarningEvent)[0].text
    assert "the optimiser starts anew" in events.of(WarningEvent)[1].text
    assert style_bytes(last.style) == style_bytes(run(config, resume=(first.style, None)).style)


@pytest.mark.parametrize(
    "change",
    ["pictures", "checkpoint", "seed", "prompt", "learning_rate"],
)
def test_on_other_inputs_it_starts_a_run_of_its_own(change):
    first = cancelled(small_config(steps=9), 6)
    config, kwargs = small_config(steps=5), {}
    if change == "pictures":
        kwargs["pictures"] = tiny_pictures(seed=2)
    elif change == "checkpoint":
        kwargs["backbone"] = TinyBackbone(seed=2)
    else:
        new = {"seed": 4, "prompt": "a man in S* style", "learning_rate": 1e-3}[change]
        config = replace(config, **{change: new})
    events = Recorder()
    last = run(config, on_event=events, resume=(first.style, first.state), **kwargs)
    text = events.of(WarningEvent)[0].text
    assert "pictures, settings or checkpoint differ" in text
    assert "steps count from 0" in text
    assert [e.step for e in events.of(StepEvent)] == [1, 2, 3, 4, 5]
    fresh = run(config, **kwargs).style if kwargs else trained(config).style
    assert last.style.facts.parent == first.style.digest
    assert last.style.facts.run not in (first.style.facts.run, fresh.facts.run)
    assert not torch.equal(last.style.vectors["l"], fresh.vectors["l"])


def test_run_started_from_a_style_resumes_to_the_same_bytes():
    parent = run(small_config(steps=3))
    config, pictures = small_config(steps=9), tiny_pictures(seed=2)
    resume = (parent.style, parent.state)
    whole = run(config, pictures=pictures, resume=resume)
    part = run(config, pictures=pictures, on_event=Recorder(stop_at=5), resume=resume)
    last = run(config, pictures=pictures, resume=(part.style, part.state))
    assert style_bytes(last.style) == style_bytes(whole.style)
    assert last.style.facts.parent == parent.style.digest
    assert part.state.run == part.style.facts.run == last.style.facts.run


@pytest.mark.parametrize("steps", [1, 5, 6])
@pytest.mark.parametrize("with_state", [True, False])
def test_steps_already_done_give_the_style_back_and_say_so(steps, with_state):
    first = cancelled(small_config(steps=9), 6)
    recorder = Recorder()
    resume = (first.style, first.state if with_state else None)
    again = run(small_config(steps=steps), on_event=recorder, resume=resume)
    assert again.outcome == "finished"
    assert style_bytes(again.style) == style_bytes(first.style)
    assert "already has 6 steps: raise steps above that" in recorder.of(WarningEvent)[-1].text


@pytest.mark.parametrize(
    ("changes", "backbone", "message"),
    [
        ({"rank": 5}, {}, "another rank or another number of layers"),
        ({"layers": 2}, {}, "another rank or another number of layers"),
        ({"statistics": "mean_std"}, {}, "another rank"),
        ({"insert_at": "attention"}, {}, "its 3 and the 2 of this model"),
        ({}, {"encoders": ("l", "g")}, "are 16 wide; this model takes 32"),
    ],
)
def test_style_of_another_shape_is_an_error(changes, backbone, message):
    first = cancelled(small_config(), 3)
    with pytest.raises(ACFunError, match=message):
        run(small_config(**changes), TinyBackbone(**backbone), resume=(first.style, first.state))


def test_clip_vision_of_another_width_is_an_error():
    first, backbone = cancelled(small_config(), 3), TinyBackbone()
    backbone.vision = torch.cat([backbone.vision, backbone.vision], dim=1)
    with pytest.raises(ACFunError, match="tokens 24 wide; this CLIP vision model gives 48"):
        run(small_config(), backbone, resume=(first.style, None))


def test_resuming_does_not_change_what_it_resumes_from():
    config = small_config(steps=9)
    first = cancelled(config, 6)
    before = style_bytes(first.style), {n: t.clone() for n, t in first.state.moments.items()}
    run(config, resume=(first.style, first.state))
    assert style_bytes(first.style) == before[0]
    assert all(torch.equal(first.state.moments[name], t) for name, t in before[1].items())
