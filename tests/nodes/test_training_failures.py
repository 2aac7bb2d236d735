"""Trainings that fail: the last good weights stay on disk, and a message says what to do."""

from __future__ import annotations

import errno
import os

import pytest
import torch
from faulty_models import fail, faulty, not_a_number, run_out_of_memory
from server import PromptServer


def test_an_exception_keeps_the_weights_and_is_not_hidden(acfun, model):
    with pytest.raises(KeyError, match="from a test"), faulty(model, fail, calls=(3,)):
        acfun.train(seed=30, steps=4)
    assert acfun.texts[-1].startswith("Stopped after step 2 of 4.")
    style, _ = acfun.kept_style()
    resumed = acfun.train(seed=30, steps=4, resume_from=style)[0]
    assert acfun.bytes_of(resumed) == acfun.bytes_of(acfun.train(seed=30, steps=4)[0])


def test_a_vae_that_overflows_is_named_and_nothing_is_kept(acfun, comfy, monkeypatch):
    vae, folder = comfy.checkpoint("sd1")[2], acfun.folder.style_folder() / "training"
    encode, before = vae.encode, set(folder.iterdir())
    monkeypatch.setattr(vae, "encode", lambda pictures: encode(pictures) * float("inf"))
    with pytest.raises(acfun.error, match=r"^The VAE gives values .* without --fp16-vae"):
        acfun.train(seed=29)
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_loss_that_is_not_finite_keeps_the_last_good_weights(acfun, model, call):
    said, fault = rf"At step {call}: The loss is not finite", faulty(model, not_a_number, (call,))
    with pytest.raises(acfun.error, match=said) as error, fault:
        acfun.train(seed=31, steps=4)
    assert "learning_rate (halve it), or set precision to bf16 or fp32" in str(error.value)
    good = max(0, call - 2)  # The weights of the step before may be what spoilt the loss.
    assert f"the weights of step {good} are kept" in str(error.value)
    assert acfun.texts[-1] == str(error.value)
    style, path = acfun.kept_style()
    assert style.facts.steps == good
    assert not path.with_suffix(".resume").exists()
    if good > 0:
        assert acfun.bytes_of(style) == acfun.bytes_of(acfun.train(seed=31, steps=good)[0])


def test_the_highest_learning_rate_is_stopped_or_stays_finite(acfun):
    try:
        style, losses, _ = acfun.train(seed=32, steps=8, learning_rate=1.0)
    except acfun.error as error:
        assert "Lower learning_rate" in str(error)
        style, losses = acfun.kept_style()[0], [0.0]
    assert torch.isfinite(torch.tensor(losses)).all()
    assert all(torch.isfinite(tensor).all() for tensor in style.abstract.values())


def test_out_of_memory_retries_once_with_checkpointing(acfun, model):
    acfun.texts.clear()
    with faulty(model, run_out_of_memory, calls=(2,)):
        _, losses, _ = acfun.train(seed=33, steps=3)
    assert acfun.texts[0] == "Out of memory: gradient checkpointing is now on."
    assert acfun.texts[1].startswith("Trained 3 steps.")
    assert losses == pytest.approx(acfun.train(seed=33, steps=3)[1], rel=1e-3)


@pytest.mark.parametrize(
    ("checkpointing", "calls"), [("auto", (2, 3)), ("on", (2,)), ("off", (2,))]
)
def test_out_of_memory_again_keeps_the_weights_and_advises(acfun, model, checkpointing, calls):
    remedy = "Out of memory in the step after 1 of 3. Lower resolution, turn gradient_checkpointing"
    options = {"seed": 34, "gradient_checkpointing": checkpointing}
    fault = faulty(model, run_out_of_memory, calls)
    with pytest.raises(acfun.error, match=remedy) as error, fault:
        acfun.train(steps=3, **options)
    assert str(error.value) == acfun.texts[-1]
    style, _ = acfun.kept_style()
    assert acfun.bytes_of(style) == acfun.bytes_of(acfun.train(steps=1, **options)[0])


def test_out_of_memory_in_a_preview_only_turns_previews_off(acfun, model):
    def fill_memory_without_gradients(output):
        return output if torch.is_grad_enabled() else run_out_of_memory(output)

    acfun.texts.clear()
    with faulty(model, fill_memory_without_gradients, calls=range(99)):
        style, losses, previews = acfun.train(seed=35, steps=3, preview_every=1)
    assert acfun.texts[0] == "Out of memory in a preview: previews are now off."
    assert len(losses) == 3
    assert not torch.is_tensor(previews)
    assert acfun.bytes_of(style) == acfun.bytes_of(acfun.train(seed=35, steps=3)[0])


def fill_disk(file_descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_does_not_cost_a_finished_training(acfun, monkeypatch):
    expected = acfun.bytes_of(acfun.train(seed=36)[0])
    folder = acfun.folder.style_folder() / "training"
    for path in folder.iterdir():
        path.unlink()
    monkeypatch.setattr(os, "fsync", fill_disk)
    style, _, _ = acfun.train(seed=36)
    assert acfun.bytes_of(style) == expected
    assert acfun.texts[-1].startswith("Trained 2 steps. The style could not be written to ")
    assert "No space left on device" in acfun.texts[-1]
    assert list(folder.iterdir()) == []


def test_a_style_that_could_not_be_kept_on_the_way_is_told_once(acfun, model, monkeypatch):
    sync, texts = os.fsync, []

    def free_disk(output):
        monkeypatch.setattr(os, "fsync", sync)
        return output

    monkeypatch.setattr(acfun.nodes["ACFunTrainStyle"], "save_every", 1)
    monkeypatch.setattr(os, "fsync", fill_disk)
    monkeypatch.setattr(
        PromptServer.instance, "send_progress_text", lambda text, node_id: texts.append(text)
    )
    with faulty(model, free_disk, calls=(3,)):
        acfun.train(seed=38, steps=4)
    told, end = texts[-1].split("\n")
    assert told.startswith("The style could not be written to ")
    assert "No space left on device" in told
    assert end.startswith("Trained 4 steps. It is kept as ")


def test_the_weights_are_kept_every_so_many_steps(acfun, model, monkeypatch):
    seen = []

    def look(output):
        files = acfun.folder.style_folder().glob("training/*.safetensors")
        seen.extend(acfun.style_file.load_style(path).facts.steps for path in files)
        return output

    for path in acfun.folder.style_folder().glob("training/*"):
        path.unlink()
    monkeypatch.setattr(acfun.nodes["ACFunTrainStyle"], "save_every", 2)
    with faulty(model, look, calls=(3, 4)):
        acfun.train(seed=37, steps=4)
    assert seen == [2, 2]
