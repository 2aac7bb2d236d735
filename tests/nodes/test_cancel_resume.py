"""Cancel keeps what was learnt, and a resumed training ends as one that was never cancelled."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from comfy.model_management import InterruptProcessingException, interrupt_current_processing
from comfy_graphs import node
from comfy_server import failure_text
from faulty_models import cancel, fail, faulty, not_a_number, run_out_of_memory
from pack_nodes import picture
from server import PromptServer
from style_graphs import kept_training, saved_style, training_graph

MANY_STEPS = 100_000


def test_cancelled_and_resumed_equals_never_cancelled(models_dir, acfun, either_server):
    graph = training_graph(either_server, models_dir, steps=MANY_STEPS, seed=20)
    prompt_id = either_server.queue(graph)
    either_server.wait_for_message(prompt_id, "progress")
    either_server.interrupt()
    history = either_server.wait(prompt_id)
    assert failure_text(history) == "Interrupted in node train (ACFunTrainStyle)."
    assert "execution_error" not in dict(history["status"]["messages"])  # What opens a dialog.
    text = either_server.messages(history).texts("train")[-1]
    path = kept_training(either_server.styles_dir, text)
    steps, cancelled = acfun.style_file.load_style(path).facts.steps, path.read_bytes()
    assert 1 <= steps < MANY_STEPS
    assert f"after step {steps} of {MANY_STEPS}" in text
    assert text in either_server.log()

    graph["train"]["inputs"]["steps"] = steps + 2
    graph["load"] = node("ACFunLoadStyle", style_file=f"training/{path.name}")
    graph["train"]["inputs"]["resume_from"] = ["load", 0]
    resumed = either_server.run(graph)
    assert (
        either_server.messages(resumed).texts("train")[-1].startswith(f"Trained {steps + 2} steps.")
    )
    del graph["load"], graph["train"]["inputs"]["resume_from"]
    whole = either_server.run(graph)
    assert "train" in either_server.executed_nodes(whole)
    assert saved_style(resumed).read_bytes() == saved_style(whole).read_bytes()
    assert saved_style(whole).read_bytes() != cancelled


@pytest.fixture
def cancelled(acfun, comfy):
    """Return a function that cancels a training in its second step and gives what is kept."""

    def run(call=2, **inputs):
        acfun.texts.clear()
        fault = faulty(comfy.checkpoint("sd1")[0], cancel, calls=(call,))
        with pytest.raises(InterruptProcessingException), fault:
            acfun.train(**{"steps": 4} | inputs)
        assert acfun.texts[0].startswith("Stopped after step ")
        assert acfun.texts[0].endswith("To go on, load it and connect it to resume_from.")
        return acfun.kept_style()

    return run


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"gradient_checkpointing": "on"}, 2),
        ({"alignment": "imagery"}, 10 + 2),  # The first ten calls draw I_i.
        ({"alignment": "drawn"}, 8 + 2),  # The first calls redraw the face.
        ({"preview_every": 2}, 2 + 5),
    ],
    ids=["checkpointing", "imagery", "drawn", "within a preview"],
)
@pytest.mark.usefixtures("quick_redrawing")
def test_resumed_training_ends_with_the_same_bytes(acfun, cancelled, options, call):
    options = {"steps": 3, "seed": 21} | options
    style, _ = cancelled(call, **options)
    assert 1 <= style.facts.steps < options["steps"]
    resumed, losses, _ = acfun.train(**options, resume_from=style)
    whole, all_losses, _ = acfun.train(**options | {"preview_every": 0})
    assert acfun.bytes_of(resumed) == acfun.bytes_of(whole)
    assert losses == all_losses
    assert acfun.bytes_of(resumed) != acfun.bytes_of(style)


@pytest.mark.parametrize(("alignment", "call"), [("imagery", 1), ("drawn", 4)])
@pytest.mark.usefixtures("quick_redrawing")
def test_cancel_before_the_first_step_keeps_nothing(acfun, comfy, alignment, call):
    acfun.texts.clear()
    fault = faulty(comfy.checkpoint("sd1")[0], cancel, calls=(call,))
    with pytest.raises(InterruptProcessingException), fault:
        acfun.train(alignment=alignment, seed=22)
    assert acfun.texts == ["Stopped before the first step; nothing was learnt."]


def test_a_cancel_that_a_notice_takes_ends_the_training(acfun, monkeypatch):
    style, _, _ = acfun.train(seed=47, steps=2)

    def hear(text, node_id):
        acfun.texts.append(text)
        if text.endswith("steps count from 2."):
            interrupt_current_processing()

    acfun.texts.clear()
    monkeypatch.setattr(PromptServer.instance, "send_progress_text", hear)
    with pytest.raises(InterruptProcessingException):
        acfun.train(seed=47, steps=6, resume_from=style)
    assert "Stopped after step 3 of 6." in acfun.texts[-1]


def test_without_its_training_state_it_says_so_and_goes_on(acfun, cancelled):
    style, path = cancelled(seed=22)
    path.with_suffix(".resume").unlink()
    acfun.texts.clear()
    resumed, losses, _ = acfun.train(seed=22, steps=4, resume_from=style)
    assert "its training state is missing" in acfun.texts[0]
    assert f"steps count from {style.facts.steps}" in acfun.texts[0]
    assert (resumed.facts.steps, len(losses)) == (4, 2)  # With it, all losses are shown.
    weight = "layers.0.out.weight"
    assert not torch.equal(resumed.abstract[weight], style.abstract[weight])


def test_the_state_of_another_step_is_not_used(acfun, cancelled):
    style, path = cancelled(seed=23)
    early = path.read_bytes()
    acfun.train(seed=23, steps=4, resume_from=style)
    path.write_bytes(early)  # The state beside it is now that of step 4.
    acfun.texts.clear()
    acfun.train(seed=23, steps=4, resume_from=acfun.style_file.load_style(path))
    assert "its training state is missing" in acfun.texts[0]


def test_a_damaged_training_state_is_named_and_done_without(acfun, cancelled, caplog):
    style, path = cancelled(seed=24)
    state = path.with_suffix(".resume")
    state.write_bytes(state.read_bytes()[:-100])
    acfun.texts.clear()
    acfun.train(seed=24, steps=4, resume_from=style)
    assert f"{state.name} is no usable ACFun training state" in caplog.text
    assert "its training state is missing" in acfun.texts[0]


GOES_ON = (
    "Goes on after step {step}, where this training was stopped. Turn on retrain to start anew."
)


def stopped(acfun, comfy, fault=cancel, error=InterruptProcessingException, call=2, **inputs):
    """Stop a training in its second step, or at another call of the U-Net; return the last text."""
    for path in (acfun.folder.style_folder() / "training").glob("*"):
        path.unlink()  # It would go on from what another test has left.
    model, _, _ = comfy.checkpoint("sd1")
    with pytest.raises(error), faulty(model, fault, calls=(call,)):
        acfun.train(**{"steps": 3, "retrain": False} | inputs)
    return acfun.texts[-1]


@pytest.fixture(scope="module")
def whole(acfun):
    """Return a function that trains; what was trained with equal inputs is kept."""
    return cache(acfun.train)


@pytest.mark.parametrize(
    ("alignment", "fault", "error"),
    [
        ("staged", cancel, InterruptProcessingException),
        ("staged", fail, KeyError),
        ("staged", run_out_of_memory, None),
        ("drawn", cancel, InterruptProcessingException),  # Takes the redrawn face along, too.
    ],
)
def test_run_again_goes_on_by_itself_to_the_same_bytes(
    acfun, comfy, whole, quick_redrawing, fault, error, alignment
):
    inputs = {"seed": 68, "alignment": alignment, "gradient_checkpointing": "off"}
    call = 2 + quick_redrawing * (alignment == "drawn")  # The first calls redraw the face.
    text = stopped(acfun, comfy, fault, error or acfun.error, call, **inputs)
    assert text.endswith("Press Run to go on.")
    step = acfun.kept_style()[0].facts.steps
    acfun.texts.clear()
    resumed, losses, _ = acfun.train(**inputs, steps=3, retrain=False)
    assert GOES_ON.format(step=step) in acfun.texts
    anew, same_losses, _ = whole(**inputs, steps=3)
    assert (acfun.bytes_of(resumed), losses) == (acfun.bytes_of(anew), same_losses)


@pytest.mark.parametrize(
    "change", [{"seed": 67}, {"steps": 1}, {"retrain": True}, {"face_image": picture(9)}]
)
def test_another_training_does_not_go_on_from_a_part(acfun, comfy, change):
    stopped(acfun, comfy, seed=69)
    acfun.texts.clear()
    acfun.train(**{"seed": 69, "steps": 3, "retrain": False} | change)
    assert not any("Goes on after" in text for text in acfun.texts)


def test_what_was_stopped_after_resume_from_goes_on_too(acfun, comfy):
    style, _, _ = acfun.train(seed=70, steps=2)
    inputs = {"seed": 70, "steps": 3, "face_image": picture(9), "resume_from": style}
    stopped(acfun, comfy, **inputs)
    acfun.texts.clear()
    whole, _, _ = acfun.train(**inputs, retrain=False)
    assert any("Goes on after" in text for text in acfun.texts)
    assert acfun.bytes_of(whole) == acfun.bytes_of(acfun.train(**inputs)[0])


def test_no_run_goes_on_after_a_loss_that_is_not_finite(acfun, comfy, monkeypatch):
    monkeypatch.setattr(acfun.nodes["ACFunTrainStyle"], "save_every", 1)
    assert "Press Run" not in stopped(acfun, comfy, not_a_number, acfun.error, seed=71)
    acfun.texts.clear()
    acfun.train(seed=71, steps=3, retrain=False)
    assert not any("Goes on after" in text for text in acfun.texts)


def test_no_run_of_a_patched_model_goes_on(acfun, comfy):
    model = comfy.checkpoint("sd1")[0].clone()
    model.set_model_unet_function_wrapper(
        lambda apply, call: apply(call["input"], call["timestep"], **call["c"])
    )
    text = stopped(acfun, comfy, model=model, seed=72)
    assert text.endswith("To go on, load it and connect it to resume_from.")
    acfun.texts.clear()
    acfun.train(model=model, seed=72, steps=3, retrain=False)
    assert not any("Goes on after" in text for text in acfun.texts)


def test_a_finished_style_takes_more_steps_from_its_weights_and_says_so(acfun):
    style, _, _ = acfun.train(seed=25, steps=2)
    assert not acfun.kept_style()[1].with_suffix(".resume").exists()
    acfun.texts.clear()
    more, losses, _ = acfun.train(seed=25, steps=3, resume_from=style)
    assert (more.facts.steps, len(losses)) == (3, 1)
    assert "so the optimiser starts anew and steps count from 2" in acfun.texts[0]


def test_a_style_with_all_its_steps_comes_back_as_it_was(acfun):
    style, _, _ = acfun.train(seed=28, steps=2)
    acfun.texts.clear()
    inputs = acfun.train_inputs() | {"seed": 28, "resume_from": style}
    same, losses, _ = acfun.run("ACFunTrainStyle", **inputs)
    assert "resume_from already has 2 steps: raise steps above that to go on." in acfun.texts
    assert acfun.bytes_of(same) == acfun.bytes_of(style)
    assert not isinstance(losses, dict)  # Nothing to plot.


def test_too_few_steps_leave_what_is_needed_to_go_on(acfun, cancelled):
    style, path = cancelled(seed=47)
    state = path.with_suffix(".resume").read_bytes()
    acfun.texts.clear()
    acfun.train(seed=47, steps=style.facts.steps, resume_from=style)
    assert any("raise steps above that to go on" in text for text in acfun.texts)
    assert path.with_suffix(".resume").read_bytes() == state
    acfun.texts.clear()
    whole, _, _ = acfun.train(seed=47, steps=4, resume_from=style)
    assert not any("training state is missing" in text for text in acfun.texts)
    assert acfun.bytes_of(whole) == acfun.bytes_of(acfun.train(seed=47, steps=4)[0])


def test_old_training_states_are_pruned_and_the_node_says_so(acfun, cancelled, monkeypatch):
    from acfun_pack.nodes.library import runs

    prune = runs.prune_states
    monkeypatch.setattr(runs, "prune_states", lambda *a, **k: prune(*a, **k, limit=1))
    _, path = cancelled(seed=45)
    states = list(path.parent.glob("*.resume"))
    assert states == [path.with_suffix(".resume")]
    _, other = cancelled(seed=46)
    assert list(path.parent.glob("*.resume")) == [other.with_suffix(".resume")]
    assert "1 old .resume files were deleted to save space." in acfun.texts[0]
    assert path.exists()


def test_a_shorter_training_does_not_overwrite_a_longer_one(acfun):
    longer, _, _ = acfun.train(seed=29, steps=3)
    _, path = acfun.kept_style()
    shorter, _, _ = acfun.train(seed=29, steps=2)
    kept, other_path = acfun.kept_style()
    assert path != other_path
    assert path.read_bytes() == acfun.bytes_of(longer)
    assert other_path.read_bytes() == acfun.bytes_of(shorter)
    assert acfun.train(seed=29, steps=3, resume_from=kept)[0].facts.steps == 3


def test_a_training_anew_leaves_nothing_of_what_it_kept_on_the_way(acfun, cancelled, monkeypatch):
    whole, _, _ = acfun.train(seed=48, steps=3)
    _, path = acfun.kept_style()
    monkeypatch.setattr(acfun.nodes["ACFunTrainStyle"], "save_every", 1)
    acfun.train(seed=48, steps=3)
    assert acfun.kept_style()[1] == path
    history = path.with_suffix(".history")
    assert set(path.parent.glob(f"{whole.facts.run}*")) == {path, history}
    cut, beside = cancelled(seed=48, steps=3)
    assert beside != path and cut.facts.steps < 3
    names = {path.name, history.name, beside.name, beside.with_suffix(".resume").name}
    assert {file.name for file in path.parent.glob(f"{whole.facts.run}*")} == names


@pytest.mark.parametrize("change", [{"seed": 27}, {"face_image": picture(9)}, {"face_weight": 0.5}])
def test_another_training_starts_from_the_styles_weights_and_says_so(acfun, change):
    style, _, _ = acfun.train(seed=26, steps=2)
    fresh, fresh_losses, _ = acfun.train(**{"seed": 26, "steps": 2} | change)
    acfun.texts.clear()
    other, losses, _ = acfun.train(**{"seed": 26, "steps": 2, "resume_from": style} | change)
    assert "pictures, settings or checkpoint differ" in acfun.texts[0]
    assert "steps count from 0" in acfun.texts[0]
    assert other.facts.steps == 2
    assert losses != fresh_losses
    assert other.facts.run not in (style.facts.run, fresh.facts.run)
