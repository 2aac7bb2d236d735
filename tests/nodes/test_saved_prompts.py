"""The API prompts of the workflows of release 0.1.0: people have saved such, and they still run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import execution
import folder_paths
import pytest

import nodes

PROMPTS = Path(__file__).parent / "prompts_0_1_0"
OURS = {
    "ACFunTrainStyle",
    "ACFunApplyEmbedding",
    "ACFunApplyAdapters",
    "ACFunSaveStyle",
    "ACFunLoadStyle",
}


@pytest.fixture(scope="module")
def stock():
    """ComfyUI's further nodes, as its server loads them."""
    asyncio.run(nodes.init_builtin_extra_nodes())


@pytest.fixture
def validate(acfun, models_dir, stock, monkeypatch, tmp_path):
    """Return a function that validates a prompt with the tiny models; it gives the errors."""
    files = {
        "ckpt_name": models_dir.name("sd1"),
        "clip_name": models_dir.name("clip_vision"),
        "control_net_name": models_dir.name("controlnet"),
        "lora_name": models_dir.name("lora"),
        "model_name": models_dir.name("upscale"),
    }
    for name, node in acfun.nodes.items():
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, node)
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    for name in ("style.png", "face.png", "pose.png"):
        (tmp_path / name).touch()

    def run(prompt):
        for node in prompt.values():
            inputs = node["inputs"]
            inputs |= {name: file for name, file in files.items() if name in inputs}
            if "style_file" in inputs:
                path = acfun.folder.style_folder() / inputs["style_file"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        valid, error, _, node_errors = asyncio.run(execution.validate_prompt("test", prompt, None))
        return [] if valid and not node_errors else [error, node_errors]

    return run


def saved(name):
    return json.loads((PROMPTS / f"{name}.json").read_text(encoding="utf-8"))


def names():
    return sorted(path.stem for path in PROMPTS.glob("*.json"))


@pytest.mark.parametrize("name", names())
def test_a_prompt_of_the_first_release_is_accepted(validate, name):
    assert validate(saved(name)) == []


@pytest.mark.parametrize(
    ("preset", "is_taken"),
    [("as set below", True), ("custom: the numbers on this node", True), ("slow", False)],
)
def test_a_preset_of_before_is_still_taken(validate, preset, is_taken):
    prompt = saved("1_train_and_apply")
    (train,) = (node for node in prompt.values() if node["class_type"] == "ACFunTrainStyle")
    train["inputs"]["preset"] = preset
    assert (validate(prompt) == []) == is_taken


def test_a_training_prompt_without_the_style_is_refused_when_it_is_queued(validate):
    prompt = saved("1_train_and_apply")
    (key,) = (k for k, node in prompt.items() if node["class_type"] == "ACFunTrainStyle")
    prompt[key]["inputs"]["prompt"] = "A painting of a woman"
    _, errors = validate(prompt)
    (error,) = errors[key]["errors"]
    assert error["details"].startswith("prompt - The training prompt 'A painting of a woman' does")
    prompt[key]["inputs"]["prompt"] = [key, 0]  # A link's text is not known yet.
    assert "does not name the style" not in str(validate(prompt))


def test_the_prompts_hold_every_node_of_the_first_release():
    types = {node["class_type"] for name in names() for node in saved(name).values()}
    assert types >= OURS


@pytest.mark.parametrize("node_type", sorted(OURS))
def test_a_missing_input_of_the_first_release_is_noticed(validate, node_type):
    """The check that this file rests on can fail."""
    name = next(n for n in names() if node_type in str(saved(n)))
    prompt = saved(name)
    node = next(node for node in prompt.values() if node["class_type"] == node_type)
    del node["inputs"][next(iter(node["inputs"]))]
    assert "Required input is missing" in str(validate(prompt))
