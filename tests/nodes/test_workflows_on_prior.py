"""The workflows beside other nodes, run on the small prior: each changes the picture as it says."""

from __future__ import annotations

import numpy as np
import pytest
from comfy_graphs import node
from PIL import Image, ImageFilter
from small_prior_graphs import (
    EXAMPLES,
    link_small_prior,
    put_examples,
    with_small_prior,
    write_small_prior_lora,
)
from small_prior_node import PRIOR
from workflow_prompts import (
    BYPASSED,
    PLAIN,
    TRANSFORMERS,
    changed,
    load_workflow,
    node_id,
    to_prompt,
    with_mode,
    workflow_names,
)

from evaluation.comfyui_host import new_server

SIDE = 64
LORA = "add_detail.safetensors"
NAMES = (
    OVER := "4 A style over an image",
    INPAINT := "5 Only the face of an image",
    FACE := "6 Background more than the face",
    PEOPLE := "7 Two people in two styles",
    BLEND := "10 Blend two styles",
    HOOKS := "11 Scheduled by hooks",
    SPLICED := "12 Train on a face spliced from two",
    SHEET := "13 Show us a sheet of strengths",
    APP := "14 A face in a style.app",
)
SEVERAL = {OVER: ("At denoise 0.3", "At denoise 0.5", "At denoise 0.7")}
BY_ADAPTERS = (OVER, INPAINT, HOOKS, SPLICED)
BY_STYLE = (BLEND, APP)
TRAINING = {"steps": 12, "learning_rate": 0.01, "preview_every": 0}


class Prior:
    """A server with the prior, and workflows run on it."""

    def __init__(self, server):
        self.server = server
        self.object_info = server.object_info()
        self.styles = {}

    def prompt(self, workflow):
        prompt = with_small_prior(to_prompt(workflow, self.object_info))
        for content in prompt.values():
            if content["class_type"] == "ACFunTrainStyle":
                content["inputs"] |= TRAINING
            if content["class_type"] in ("KSampler", "ACFunStyleSheet"):
                content["inputs"]["steps"] = 6
            if content["class_type"] == "ACFunLoadStyle":
                is_other = content["_meta"]["title"] in ("Right style", "Second style")
                content["inputs"]["style_file"] = self.style("other" if is_other else "first")
        return prompt

    def style(self, name="first"):
        """Return the name of a style trained by the first workflow, the other on other pictures."""
        if name not in self.styles:
            self.styles[name] = f"{name}_00001_.safetensors"
            prompt = self.prompt(load_workflow("1 Train a style and apply it"))
            if name == "other":
                prompt = changed(prompt, "Style picture", image="acfun_other_face.jpg")
            self.server.run(changed(prompt, "ACFunSaveStyle", filename_prefix=name))
        return self.styles[name]

    def images(self, prompt, title="Styled image"):
        history = self.server.run(prompt)
        return self.server.images(history, node_id(prompt, title))

    def output_of(self, prompt, key):
        """Return the picture that a node of a prompt gives."""
        look = node("PreviewImage", images=[key, 0]) | {"_meta": {"title": "Look"}}
        return self.images({**prompt, "look": look}, "Look")[0]


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    write_small_prior_lora(models / "loras" / LORA, PRIOR)
    server = new_server(models)
    link_small_prior(server)
    put_examples(server)
    with server as running:
        yield Prior(running)


def example(name):
    picture = Image.open(EXAMPLES / name).convert("RGB").resize((SIDE, SIDE), Image.LANCZOS)
    return np.asarray(picture).astype(int)


def face_weight():
    return np.asarray(Image.open(EXAMPLES / "acfun_face_mask.png").resize((SIDE, SIDE)))


def dilated(inside):
    """Return a mask of what is white or at most two pixels from it."""
    picture = Image.fromarray(inside.astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.MaxFilter(5))) > 0


def off(one, other):
    return np.abs(one.astype(int) - other.astype(int)).mean()


def test_every_workflow_is_run():
    assert sorted(workflow_names()) == sorted((*PLAIN, *NAMES, *TRANSFORMERS))


@pytest.mark.parametrize("name", BY_ADAPTERS)
def test_adapters_act_in_each_workflow(prior, name):
    prompt = prior.prompt(load_workflow(name))
    plain = prior.prompt(with_mode(load_workflow(name), "ACFunApplyAdapters", BYPASSED))
    for title in SEVERAL.get(name, ("Styled image",)):
        styled, unstyled = (prior.images(one, title)[0] for one in (prompt, plain))
        drawn = face_weight() == 255 if name == INPAINT else np.s_[:]
        assert off(styled[drawn], unstyled[drawn]) > 1


@pytest.mark.parametrize("name", BY_STYLE)
def test_style_acts_in_each_workflow(prior, name):
    prompt = prior.prompt(load_workflow(name))
    plain = changed(prompt, "ACFunApplyStyle", strength=0.0)
    assert off(prior.images(prompt)[0], prior.images(plain)[0]) > 1


def test_blend_lies_between_two_styles(prior):
    prompt = prior.prompt(load_workflow(BLEND))
    first, between, second = (
        prior.images(changed(prompt, "ACFunBlendStyles", ratio=ratio))[0] for ratio in (0, 0.5, 1)
    )
    assert off(first, second) > 2
    assert max(off(first, between), off(between, second)) < off(first, second)


def test_sheet_shows_rows_of_labelled_images(prior):
    (sheet,) = prior.images(prior.prompt(load_workflow(SHEET)), "Sheet")
    assert sheet.shape[1] > 5 * SIDE
    assert sheet.shape[0] > 3 * SIDE


def test_app_shows_checkpoint_images_and_prompt_and_gives_the_image():
    workflow = load_workflow(APP)
    titles = {node["id"]: node.get("title", node["type"]) for node in workflow["nodes"]}
    shown = workflow["extra"]["linearData"]
    assert [titles[node] for node, _ in shown["inputs"]] == [
        "CheckpointLoaderSimple",
        "Style picture",
        "Face photo",
        "Prompt",
    ]
    assert [titles[node] for node in shown["outputs"]] == ["Styled image"]


def test_inpainting_leaves_all_but_the_face_as_it_was(prior):
    prompt = prior.prompt(load_workflow(INPAINT))
    (image,) = prior.images(prompt)
    photo = prior.output_of(prompt, node_id(prompt, "ImageScale"))
    weight = face_weight()
    assert off(image[weight == 255], photo[weight == 255]) > 8
    around = ~dilated(weight > 0)
    assert np.array_equal(image[around], photo[around])


def test_a_part_is_styled_less_than_the_rest(prior):
    """The part is nearer to the plain image than under one strength; the rest hardly changes."""
    prompt = prior.prompt(load_workflow(FACE))
    evenly = changed(prompt, "Face", strength=1.0)
    nothing = changed(changed(prompt, "Face", strength=0.0), "Background", strength=0.0)
    image, even, plain = (prior.images(one)[0] for one in (prompt, evenly, nothing))
    inside = face_weight() > 127
    styled, less = {}, {}
    for where, pixels in (("part", inside), ("rest", ~dilated(inside))):
        full = off(even[pixels], plain[pixels])
        assert full > 3
        styled[where] = off(image[pixels], plain[pixels]) / full
        less[where] = off(image[pixels], even[pixels])
    assert styled["part"] < styled["rest"] - 0.04
    assert less["part"] > 2 * less["rest"]


def test_two_people_are_each_in_their_own_style(prior):
    prompt = prior.prompt(load_workflow(PEOPLE))
    (image,) = prior.images(prompt)
    middle = image.shape[1] // 2
    assert image.shape == (SIDE, SIDE * 3 // 2, 3)
    sides = {"Left": np.s_[:, : middle - 4], "Right": np.s_[:, middle + 4 :]}
    for side, other in (("Left", "Right"), ("Right", "Left")):
        file = prompt[node_id(prompt, f"{other} style")]["inputs"]["style_file"]
        (same,) = prior.images(changed(prompt, f"{side} style", style_file=file))
        (plain,) = prior.images(changed(prompt, f"{side} person", strength=0.0))
        for another in (same, plain):
            here, there = (off(image[sides[s]], another[sides[s]]) for s in (side, other))
            assert here > 2
            assert here > 1.3 * there  # Attention carries something of it across.


def test_more_denoise_goes_further_from_the_picture(prior):
    photo = example("acfun_face.jpg")
    prompt = prior.prompt(load_workflow(OVER))
    distances = [off(prior.images(prompt, title)[0], photo) for title in SEVERAL[OVER]]
    assert distances[0] < distances[1] < distances[2]


def test_hooks_change_the_picture_over_the_course_of_sampling(prior):
    prompt = prior.prompt(load_workflow(HOOKS))
    (image,) = prior.images(prompt)
    (without_lora,) = prior.images(changed(prompt, "CreateHookLoraModelOnly", strength_model=0.0))
    (whole,) = prior.images(changed(prompt, "ConditioningTimestepsRange", end_percent=0.0))
    lasting = changed(prompt, "CreateHookKeyframesInterpolated", strength_end=1.0)
    assert off(image, without_lora) > 0.2
    assert off(image, whole) > 0.2
    assert off(image, prior.images(lasting)[0]) > 0.05


def test_style_is_trained_on_the_spliced_face(prior):
    prompt = prior.prompt(load_workflow(SPLICED))
    (spliced,) = prior.images(prompt, "Spliced face")
    inside = np.asarray(Image.open(EXAMPLES / "acfun_face_mask.png")) > 0
    for part, title in ((inside, "Second face"), (~inside, "First face")):
        photo = prior.output_of(prompt, node_id(prompt, title))
        assert np.abs(spliced[part].astype(int) - photo[part]).max() <= 1  # Rounding.
    (drawn,) = prior.images(prompt)
    one_face = changed(prompt, "Second face", image="acfun_face.jpg")
    assert off(drawn, prior.images(one_face)[0]) > 1
