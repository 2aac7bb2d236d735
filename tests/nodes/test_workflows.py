"""The workflows that the pack ships, run through /prompt with tiny models in place of real ones."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image
from workflow_prompts import (
    BYPASSED,
    CONTROLNET,
    HALVES,
    LORA,
    PLAIN,
    ROOT,
    SAVED,
    TRAIN,
    changed,
    load_workflow,
    node_id,
    to_prompt,
    widget_values,
    with_mode,
)

PICTURES = {
    "acfun_style.jpg": "styles/portrait_vangogh_1889.jpg",
    "acfun_face.jpg": "faces/eileen_collins_1.png",
    "acfun_other_face.jpg": "faces/sally_ride_1.jpg",
}
BY_HALVES = (HALVES, CONTROLNET, LORA)
DATA = ROOT.parent / "shared" / "data"
SIDE = 64
STYLE_PREFIX = "from_workflow"
STEPS = 4
# A few steps must change the picture visibly, hence the high learning rate.
TRAINING = {
    "preset": "custom: the numbers on this node",
    "steps": STEPS,
    "resolution": SIDE,
    "preview_every": 2,
    "learning_rate": 0.01,
}


class Runner:
    """Runs workflows on a server with tiny models, pictures and sizes."""

    def __init__(self, server, models_dir):
        self.server = server
        self.object_info = server.object_info()
        self.overrides = {
            "CheckpointLoaderSimple": {"ckpt_name": models_dir.name("sd1")},
            "CLIPVisionLoader": {"clip_name": models_dir.name("clip_vision")},
            "ControlNetLoader": {"control_net_name": models_dir.name("controlnet")},
            "LoraLoader": {"lora_name": models_dir.name("lora")},
            "UpscaleModelLoader": {"model_name": models_dir.name("upscale")},
            "KSampler": {"steps": 2},
            "EmptyLatentImage": {"width": SIDE, "height": SIDE},
            "ACFunTrainStyle": TRAINING,
            "ACFunSaveStyle": {"filename_prefix": STYLE_PREFIX},
            "ACFunLoadStyle": {"style_file": f"{STYLE_PREFIX}_00001_.safetensors"},
        }
        for name in PICTURES:
            server.add_input(name, picture(name))

    def prompt(self, workflow):
        types = {node["type"] for node in workflow["nodes"] if node["mode"] != BYPASSED}
        overrides = {kind: self.overrides[kind] for kind in types & self.overrides.keys()}
        return to_prompt(workflow, self.object_info, overrides)

    def run(self, prompt):
        return self.server.run(prompt, timeout=600.0)

    def image(self, prompt):
        (image,) = self.server.images(self.run(prompt), node_id(prompt, "Styled image"))
        return image


@pytest.fixture(scope="module")
def runner(server, models_dir):
    return Runner(server, models_dir)


@pytest.fixture(scope="module")
def trained(runner):
    """Prompt and history of the first workflow; the others load the style it saves."""
    prompt = runner.prompt(load_workflow(TRAIN))
    return prompt, runner.run(prompt)


@pytest.fixture(scope="module", params=PLAIN)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def styled(runner, trained, name):
    """Prompt and picture of a workflow as it is."""
    prompt = runner.prompt(load_workflow(name))
    return prompt, runner.image(prompt)


def test_training_workflow_saves_a_style_and_draws_with_it(runner, trained):
    prompt, history = trained
    style = runner.server.styles_dir / f"{STYLE_PREFIX}_00001_.safetensors"
    assert style.stat().st_size > 100_000
    (text,) = history["outputs"][node_id(prompt, "Save ACFun Style")]["text"]
    assert style.name in text
    (image,) = runner.server.images(history, node_id(prompt, "Styled image"))
    assert_is_picture(image, SIDE)


def test_running_again_with_another_seed_does_not_train_again(runner, trained):
    prompt, _ = trained
    again = changed(prompt, "KSampler", seed=12)
    history = runner.run(again)
    executed = runner.server.executed_nodes(history)
    assert node_id(again, "KSampler") in executed
    assert node_id(again, "Train ACFun Style") not in executed
    assert node_id(again, "Save ACFun Style") not in executed


def test_workflow_draws_a_picture(styled, name):
    _, image = styled
    # The fourth enlarges 1.5 times as a latent, then by the upscale model, which is twofold here.
    assert_is_picture(image, 3 * SIDE if name == LORA else SIDE)


@pytest.mark.parametrize("name", [TRAIN, SAVED])
def test_strength_zero_changes_the_image(runner, trained, name):
    prompt = runner.prompt(load_workflow(name))
    plain = changed(prompt, "ACFunApplyStyle", strength=0.0)
    assert not np.array_equal(runner.image(plain), runner.image(prompt))


@pytest.mark.parametrize("name", BY_HALVES)
def test_bypassing_the_adapters_changes_the_picture(runner, trained, name):
    prompt = runner.prompt(load_workflow(name))
    image = runner.image(prompt)
    plain = runner.prompt(with_mode(load_workflow(name), "ACFunApplyAdapters", BYPASSED))
    assert len(plain) == len(prompt) - 1
    assert not np.array_equal(runner.image(plain), image)


@pytest.mark.parametrize("name", BY_HALVES)
def test_embedding_at_strength_zero_changes_the_picture(runner, trained, name):
    prompt = runner.prompt(load_workflow(name))
    plain = changed(prompt, "ACFunApplyEmbedding", strength=0.0)
    assert not np.array_equal(runner.image(plain), runner.image(prompt))


def test_controlnet_acts_together_with_the_style(runner, trained):
    prompt = runner.prompt(load_workflow(CONTROLNET))
    without = changed(prompt, "Apply ControlNet", strength=0.0)
    assert not np.array_equal(runner.image(prompt), runner.image(without))


def test_lora_acts_together_with_the_style(runner, trained):
    prompt = runner.prompt(load_workflow(LORA))
    without = changed(prompt, "LoraLoader", strength_model=0.0, strength_clip=0.0)
    assert not np.array_equal(runner.image(prompt), runner.image(without))


def test_oldest_comfyui_runs_the_first_two_workflows(old_server, models_dir):
    old = Runner(old_server, models_dir)
    assert_is_picture(old.image(old.prompt(load_workflow(TRAIN))), SIDE)
    assert_is_picture(old.image(old.prompt(load_workflow(SAVED))), SIDE)


def test_workflow_of_another_version_is_refused(runner):
    workflow = load_workflow(TRAIN)
    node = next(node for node in workflow["nodes"] if node["type"] == "ACFunTrainStyle")
    node["widgets_values"].append(1)
    with pytest.raises(ValueError, match="save it again"):
        widget_values(node, runner.object_info["ACFunTrainStyle"])


@pytest.mark.parametrize("override", [{"NoNode": {}}, {"KSampler": {"no_input": 1}}])
def test_override_that_fits_nothing_is_refused(runner, override):
    with pytest.raises(ValueError, match="override"):
        to_prompt(load_workflow(TRAIN), runner.object_info, override)


def picture(name):
    """Return a real painting or photo, or a generated one where the data is absent."""
    path = DATA / PICTURES[name]
    if path.is_file():
        return np.array(Image.open(path).convert("RGB"))
    warnings.warn(f"{path} is absent: the workflows run on generated pictures.", stacklevel=2)
    ramp = np.linspace(0, 255, 96)
    red, green = np.meshgrid(ramp, ramp)
    blue = np.where((red // 32 + green // 32) % 2, 200, len(name) * 5)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def assert_is_picture(image, side):
    assert image.shape == (side, side, 3)
    assert image.std() > 1
