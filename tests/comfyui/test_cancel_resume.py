"""Cancel keeps what was learnt, and a resumed training ends as one that was never cancelled."""

from __future__ import annotations

import pytest
import torch
from comfy.model_management import InterruptProcessingException
from comfy_graphs import node
from comfy_server import failure_text
from faulty_models import cancel, faulty, run_out_of_memory
from pack_nodes import picture, with_inserts
from style_graphs import saved_style, training_graph

MANY_STEPS = 100_000


@pytest.mark.parametrize("fixture", ["server", "old_server"])
def test_cancelled_and_resumed_equals_never_cancelled(request, models_dir, acfun, fixture):
    server = request.getfixturevalue(fixture)
    graph = training_graph(server, models_dir, steps=MANY_STEPS, seed=20, preview_every=2)
    prompt_id = server.queue(graph)
    server.wait_for_message(prompt_id, "preview")
    server.interrupt()
    history = server.wait(prompt_id)
    assert failure_text(history) == "Interrupted in node train (ACFunTrainStyle)."
    assert "execution_error" not in dict(history["status"]["messages"])  # What opens a dialog.
    (text,) = server.messages(history).texts("train")
    path = next(p for p in (server.styles_dir / "training").iterdir() if str(p) in text)
    steps = acfun.style_file.load_style(path).facts.steps
    assert 2 <= steps < MANY_STEPS
    assert f"after step {steps} of {MANY_STEPS}" in text
    assert text in server.log()

    graph["train"]["inputs"] |= {"steps": steps + 2, "preview_every": 0}
    graph["load"] = node("ACFunLoadStyle", style_file=f"training/{path.name}")
    graph["train"]["inputs"]["resume_from"] = ["load", 0]
    resumed = server.run(graph)
    assert server.messages(resumed).texts("train")[0].startswith(f"Trained {steps + 2} steps.")
    del graph["load"], graph["train"]["inputs"]["resume_from"]
    whole = server.run(graph)
    assert "train" in server.executed_nodes(whole)
    assert saved_style(resumed).read_bytes() == saved_style(whole).read_bytes()
    assert saved_style(whole).read_bytes() != path.read_bytes()


@pytest.fixture
def cancelled(acfun, comfy):
    """Return a function that cancels a training in its second step; it returns what is left."""

    def run(**inputs):
        model = faulty(comfy.checkpoint("sd1")[0], cancel, calls=(2,))
        acfun.texts.clear()
        with pytest.raises(InterruptProcessingException):
            acfun.train(model=model, steps=4, **inputs)
        path = next(
            p
            for p in (acfun.folder.style_folder() / "training").iterdir()
            if str(p) in acfun.texts[-1]
        )
        return acfun.run("ACFunLoadStyle", style_file=f"training/{path.name}")[0], path

    return run


@pytest.mark.parametrize(
    "options",
    [{}, {"alignment": "imagery"}, {"precision": "bf16"}, {"precision": "fp16"}],
    ids=lambda options: "-".join(options.values()) or "defaults",
)
def test_resumed_training_ends_with_the_same_bytes(acfun, cancelled, options):
    style, _ = cancelled(seed=21, **options)
    assert style.facts.steps == 2
    resumed, losses, _ = acfun.train(seed=21, steps=4, resume_from=style, **options)
    whole, all_losses, _ = acfun.train(seed=21, steps=4, **options)
    assert acfun.bytes_of(resumed) == acfun.bytes_of(whole)
    assert losses == all_losses
    assert acfun.bytes_of(resumed) != acfun.bytes_of(style)


def test_without_its_training_state_it_says_so_and_goes_on(acfun, cancelled):
    style, path = cancelled(seed=22)
    path.with_suffix(".resume").unlink()
    acfun.texts.clear()
    resumed, _, _ = acfun.train(seed=22, steps=4, resume_from=style)
    assert "its training state is missing" in acfun.texts[0]
    assert "steps count from 2" in acfun.texts[0]
    assert resumed.facts.steps == 4
    whole, _, _ = acfun.train(seed=22, steps=4)
    assert acfun.bytes_of(resumed) != acfun.bytes_of(whole)
    assert not torch.equal(resumed.vectors["l"], style.vectors["l"])


def test_a_damaged_training_state_is_named(acfun, cancelled):
    style, path = cancelled(seed=23)
    state = path.with_suffix(".resume")
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(acfun.error, match=rf"{state.name} is no usable ACFun training state"):
        acfun.train(seed=23, steps=4, resume_from=style)
    state.unlink()
    acfun.train(seed=23, steps=4, resume_from=style)


def test_a_finished_style_takes_more_steps(acfun):
    style, _, _ = acfun.train(seed=24, steps=2)
    with pytest.raises(acfun.error, match="already has 2 steps and steps is 2"):
        acfun.train(seed=24, steps=2, resume_from=style)
    more, losses, _ = acfun.train(seed=24, steps=3, resume_from=style)
    assert (more.facts.steps, len(losses)) == (3, 3)
    assert acfun.bytes_of(more) == acfun.bytes_of(acfun.train(seed=24, steps=3)[0])


def test_other_settings_start_from_the_styles_weights_and_say_so(acfun):
    style, _, _ = acfun.train(seed=25, steps=2)
    fresh, fresh_losses, _ = acfun.train(seed=26, steps=2)
    acfun.texts.clear()
    other, losses, _ = acfun.train(seed=26, steps=2, resume_from=style)
    assert "pictures, settings or checkpoint differ" in acfun.texts[0]
    assert "steps count from 0" in acfun.texts[0]
    assert other.facts.steps == 2
    assert losses != fresh_losses
    assert other.facts.run not in (style.facts.run, fresh.facts.run)


def test_other_pictures_start_from_the_styles_weights_and_say_so(acfun):
    style, _, _ = acfun.train(seed=27, steps=2)
    acfun.texts.clear()
    acfun.train(seed=27, steps=3, resume_from=style, face_image=picture(9))
    assert "pictures, settings or checkpoint differ" in acfun.texts[0]


def test_out_of_memory_retries_once_with_checkpointing(acfun, comfy):
    model = comfy.checkpoint("sd1")[0]
    acfun.texts.clear()
    style, losses, _ = acfun.train(
        model=faulty(model, run_out_of_memory, calls=(2,)), seed=28, steps=3
    )
    assert acfun.texts[0] == "Out of memory: gradient checkpointing is now on."
    assert len(losses) == 3
    plain, plain_losses, _ = acfun.train(seed=28, steps=3)
    assert losses == pytest.approx(plain_losses, rel=1e-3)
    with_inserts(
        style,
        lambda block, name, tensor: torch.testing.assert_close(
            tensor, plain.concrete[block][name], rtol=0.1, atol=0.01
        ),
    )


@pytest.mark.parametrize(
    ("checkpointing", "calls"), [("auto", (2, 3)), ("on", (2,)), ("off", (2,))]
)
def test_out_of_memory_again_keeps_the_weights_and_advises(acfun, comfy, checkpointing, calls):
    model = faulty(comfy.checkpoint("sd1")[0], run_out_of_memory, calls)
    remedy = "Out of memory in the step after 1 of 3. Lower resolution, turn gradient_checkpointing"
    with pytest.raises(acfun.error, match=remedy) as error:
        acfun.train(model=model, seed=29, steps=3, gradient_checkpointing=checkpointing)
    assert "The style is kept at" in str(error.value)
    name = str(error.value).rsplit("/", 1)[1].removesuffix(".")
    kept = acfun.run("ACFunLoadStyle", style_file=f"training/{name}")[0]
    once = acfun.train(seed=29, steps=1)[0]
    assert acfun.bytes_of(kept) == acfun.bytes_of(once)
