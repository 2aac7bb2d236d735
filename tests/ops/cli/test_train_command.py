"""``python -m acfun_ops train``: what it saves, what it says, and how it ends."""

import re
import signal
from dataclasses import asdict, fields

import pytest
import torch
from headless_files import pixels
from PIL import Image

from acfun_ops.cli import train as train_command
from acfun_ops.cli import training_run as saved_training
from acfun_ops.cli.parser import parse_arguments
from acfun_ops.cli.training_run import training_config
from acfun_ops.style.style_file import load_style, save_style
from acfun_ops.training import events
from acfun_ops.training import run_files as kept_run
from acfun_ops.training.checkpoint import load_state
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.training_images import prepare_images


def test_training_saves_a_style_and_says_where(line):
    code, said, errors = line.train("--alignment", "drawn")
    assert code == 0
    assert re.search(r"Trained 3 steps\. The style is saved at .*my\.safetensors \(\d", said)
    assert "training: 100%" in errors  # The progress bar.
    style = load_style(line.out)
    assert (style.facts.steps, style.facts.family) == (3, "custom")
    assert sorted(p.name for p in line.folder.iterdir()) == [
        "face.png",
        "my.safetensors",
        "style.png",
    ]


def test_the_same_command_gives_the_same_bytes_and_another_seed_others(line):
    files = []
    for seed in (5, 5, 6):
        line.train("--seed", seed)
        files.append(line.out.read_bytes())
    assert files[0] == files[1] != files[2]


def test_every_option_of_a_training_is_reachable():
    changed = {
        "prompt": "a X! b",
        "steps": 7,
        "learning_rate": 0.5,
        "style_weight": 0.25,
        "face_weight": 0.75,
        "seed": 2**64 - 1,
        "resolution": 128,
        "preview_every": 3,
        "rank": 5,
        "alignment": "blend",
        "precision": "bf16",
        "gradient_checkpointing": "on",
        "pseudo_word": "X!",
        "initial_word": "face",
        "layers": 3,
        "heads": 4,
        "dropout": 0.5,
        "insert_at": "attention",
        "statistics": "mean_std",
    }
    assert changed.keys() == {f.name for f in fields(TrainConfig)}
    files = ["train", "--model", "m", "--style-image", "a", "--face-image", "b", "--out", "c"]
    options = [p for n, v in changed.items() for p in (f"--{n.replace('_', '-')}", str(v))]
    found, plain = (
        asdict(training_config(parse_arguments(files + more))) for more in (options, [])
    )
    assert found == changed
    assert plain == asdict(TrainConfig())


def test_options_reach_the_training(line, monkeypatch):
    seen = []

    def spy(backbone, pictures, config):
        seen.append((config, pictures))
        return prepare_images(backbone, pictures, config)

    monkeypatch.setattr(saved_training, "prepare_images", spy)
    mask = line.folder / "mask.png"
    Image.new("L", (80, 64), 255).save(mask)
    line.train("--face-weight", "0.3", "--prompt", "a S* face", "--face-mask", mask)
    config, pictures = seen[0]
    assert (config.face_weight, config.prompt) == (0.3, "a S* face")
    assert pictures.face_mask[0].shape == (1, 64, 80) and pictures.face_mask[0].min() == 1
    levels = torch.from_numpy(pixels(line.style)) / 255
    assert torch.allclose(pictures.style[0], levels.float())
    assert not torch.allclose(pictures.face[0], pictures.style[0])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains(line, precision):
    code, _, _ = line.train("--precision", precision)
    style = load_style(line.out)
    assert (code, style.facts.steps) == (0, 3)
    assert style.facts.settings["precision"] == {"bf16": "bfloat16", "fp16": "float16"}[precision]
    assert all(state["scale.weight"].any() for state in style.concrete.values())


def test_previews_are_written_beside_the_style(line):
    line.train("--preview-every", 2)
    folder = line.folder / "my_previews"
    names = [f"step_00000{step}.png" for step in (1, 2, 3)]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert pixels(folder / "step_000003.png").shape == (64, 64, 3)


def test_resuming_goes_on_exactly_and_a_finished_training_leaves_no_state(line, monkeypatch):
    line.train("--steps", 5)
    whole = load_style(line.out)
    line.out = line.folder / "parts.safetensors"
    with monkeypatch.context() as context:
        interrupting(context, at=2)
        assert line.train("--steps", 5)[0] == 130
    assert line.out.with_suffix(".resume").exists()
    code, _, errors = line.train("--steps", 5, "--resume-from", line.out)
    resumed = load_style(line.out)
    assert (code, resumed.facts.steps) == (0, 5)
    assert "Resuming" not in errors
    assert not line.out.with_suffix(".resume").exists()
    assert all(torch.equal(whole.abstract[n], resumed.abstract[n]) for n in whole.abstract)


@pytest.mark.parametrize("state", [None, b"broken"])
def test_resuming_without_a_state_goes_on_from_the_weights_and_says_so(line, state):
    line.train("--steps", 2)
    beside = line.out.with_suffix(".resume")
    assert not beside.exists()
    if state is not None:
        beside.write_bytes(state)
    code, _, errors = line.train("--steps", 4, "--resume-from", line.out)
    assert (code, load_style(line.out).facts.steps) == (0, 4)
    assert "note: Resuming from the style's weights alone" in errors


def test_a_diverged_training_saves_the_last_good_style_and_fails(line, monkeypatch):
    calls = []

    def poison(backbone):
        denoise = backbone.denoise

        def poisoned(*arguments):
            calls.append(1)
            return denoise(*arguments) * (float("nan") if len(calls) == 3 else 1)

        backbone.denoise = poisoned
        return backbone

    load = train_command.load_pipeline
    monkeypatch.setattr(train_command, "load_pipeline", lambda *a: poison(load(*a)))
    code, _, errors = line.train("--steps", 9)
    assert code == 1
    assert "error: At step 3: The loss is not finite any more" in errors
    style = load_style(line.out)
    assert f"The style of step {style.facts.steps} is saved at {line.out}" in errors


def test_running_out_of_memory_saves_the_last_good_style_and_fails(line, monkeypatch):
    calls = []

    def exhaust(backbone):
        denoise = backbone.denoise

        def exhausted(*arguments):
            calls.append(1)
            if len(calls) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return denoise(*arguments)

        backbone.denoise = exhausted
        return backbone

    load = train_command.load_pipeline
    monkeypatch.setattr(train_command, "load_pipeline", lambda *a: exhaust(load(*a)))
    code, _, errors = line.train("--steps", 9)
    assert (code, load_style(line.out).facts.steps) == (1, 2)
    assert "error: Out of memory in the step after 2 of 9" in errors


def interrupting(monkeypatch, at, times=1, then=None):
    """Send this process Ctrl-C within a step, as the terminal would."""
    load, calls = train_command.load_pipeline, []

    def interrupt(backbone):
        denoise = backbone.denoise

        def interrupted(*arguments):
            calls.append(1)
            if len(calls) == at:
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)
            return denoise(*arguments)

        backbone.denoise = interrupted
        return backbone

    monkeypatch.setattr(train_command, "load_pipeline", lambda *a: interrupt(load(*a)))


def test_ctrl_c_finishes_the_step_and_saves(line, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    interrupting(monkeypatch, at=4)
    code, said, _ = line.train("--steps", 50)
    assert (code, load_style(line.out).facts.steps) == (130, 4)
    assert f"Stopped after step 4 of 50; the style is saved at {line.out}" in said
    assert f"--resume-from {line.out}" in said
    assert load_state(line.out.with_suffix(".resume")).step == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_an_early_end_leaves_a_longer_part_of_the_same_run_alone(line, monkeypatch):
    line.train("--steps", 5)
    whole = line.out.read_bytes()
    interrupting(monkeypatch, at=2)
    code, said, _ = line.train("--steps", 50)
    beside = line.folder / "my_2.safetensors"
    assert (code, load_style(beside).facts.steps, line.out.read_bytes()) == (130, 2, whole)
    assert f"Stopped after step 2 of 50; the style is saved at {beside} " in said
    monkeypatch.undo()
    line.train("--steps", 2)  # Finished, and so what was asked for.
    assert load_style(line.out).facts.steps == 2


def test_training_over_a_finished_style_leaves_no_shorter_one_beside_it(line, monkeypatch):
    assert line.train()[0] == 0
    monkeypatch.setattr(events.Reporter, "save_every", 1)
    assert line.train()[0] == 0
    assert [path.name for path in line.folder.glob("my*") if path.is_file()] == ["my.safetensors"]


def test_a_second_ctrl_c_stops_at_once_and_saves_the_step_before(line, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    interrupting(monkeypatch, at=4, times=2)
    code, _, errors = line.train("--steps", 50)
    assert (code, load_style(line.out).facts.steps) == (130, 3)
    assert f"The style of step 3 is saved at {line.out}" in errors
    assert signal.getsignal(signal.SIGINT) is before


def test_a_ctrl_c_within_the_last_save_costs_nothing(line, monkeypatch):
    def save(style, path):
        if not line.out.exists():
            line.out.touch()
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
        return save_style(style, path)

    monkeypatch.setattr(kept_run, "save_style", save)
    code, _, errors = line.train()
    assert (code, load_style(line.out).facts.steps) == (130, 3)
    assert f"The style of step 3 is saved at {line.out}" in errors


def test_a_full_disk_after_two_ctrl_c_is_told_and_ends_as_an_interrupt(line, monkeypatch):
    tries = []

    def save(style, path):
        tries.append(path)
        for _ in range(2 if len(tries) == 1 else 0):
            signal.raise_signal(signal.SIGINT)
        raise saved_training.ACFunError("The disk is full.")

    monkeypatch.setattr(kept_run, "save_style", save)
    code, _, errors = line.train()
    assert (code, len(tries)) == (130, 2)
    assert "note: The disk is full." in errors and "error: Interrupted." in errors


def test_what_is_not_finished_takes_no_other_styles_place(line, monkeypatch):
    line.train()
    other = line.folder / "my_2.safetensors"
    other.write_bytes(b"a LoRA, say")
    finished = line.out.read_bytes()
    interrupting(monkeypatch, at=2)
    code, said, _ = line.train("--seed", 9, "--steps", 5)
    beside = line.folder / "my_3.safetensors"
    assert (code, line.out.read_bytes(), other.read_bytes()) == (130, finished, b"a LoRA, say")
    assert load_style(beside).facts.steps == 2 and f"--resume-from {beside}" in said


def test_a_disk_too_full_for_the_state_still_tells_of_the_style(line, monkeypatch):
    interrupting(monkeypatch, at=2)

    def full(state, path):
        raise saved_training.ACFunError("The disk is full.")

    monkeypatch.setattr(kept_run, "save_state", full)
    code, said, errors = line.train("--steps", 5)
    assert (code, load_style(line.out).facts.steps) == (130, 2)
    assert f"the style is saved at {line.out}" in said
    assert "not what it needs to go on exactly. The disk is full." in errors


def test_a_full_disk_on_the_way_costs_no_training(line, monkeypatch):
    monkeypatch.setattr(events.Reporter, "save_every", 1)
    writes = []

    def save(style, path):
        writes.append(style.facts.steps)
        if len(writes) == 1:
            raise saved_training.ACFunError("The disk is full.")
        return save_style(style, path)

    monkeypatch.setattr(kept_run, "save_style", save)
    code, _, errors = line.train()
    assert (code, writes) == (0, [1, 2, 3])
    assert "note: The disk is full." in errors


@pytest.mark.parametrize(
    "option", ["model", "style-image", "face-image", "out", "face-mask", "resume-from"]
)
def test_a_tilde_stands_for_the_home_folder_where_no_shell_puts_it_in(option, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of")
    files = {"model": "m", "style-image": "a", "face-image": "b", "out": "c"} | {option: "~/x"}
    found = parse_arguments(["train", *(f"--{n}={v}" for n, v in files.items())])
    value = getattr(found, option.replace("-", "_"))
    assert str(value[0] if isinstance(value, list) else value) == "/home/of/x"


def test_a_name_that_cannot_be_saved_is_refused_before_the_training(line, monkeypatch):
    monkeypatch.setattr(train_command, "load_pipeline", lambda *a: pytest.fail("It was loaded."))
    (line.folder / "file").write_text("mine")
    for out in (line.folder / f"{'画' * 82}.safetensors", line.folder / "file" / "a.safetensors"):
        assert "could not be written to" in line.error(line.train(out=out))
    assert sorted(p.name for p in line.folder.iterdir()) == ["face.png", "file", "style.png"]
