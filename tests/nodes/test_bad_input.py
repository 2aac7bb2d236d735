"""Bad input meets one clear sentence that names the socket or file and the remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from comfy_graphs import node
from pack_nodes import RAW_ERRORS, picture
from style_graphs import styled_graph, training_graph

FLAT = {"color": 0, "batch_size": 1}


@pytest.fixture
def style_name(acfun, server):
    (server.styles_dir / "sd1.safetensors").write_bytes(acfun.bytes_of(acfun.style()))
    return "sd1.safetensors"


def trained_on(change):
    """Return a function that gives a training graph changed in one way."""

    def build(server, models_dir, style_name):
        graph = training_graph(server, models_dir)
        graph["train"]["inputs"] |= change.get("train", {})
        for name in ("other", "image"):
            if name in change:
                graph[name] = change[name](models_dir)
        return graph

    return build


def checkpoint(key):
    return lambda models_dir: node("CheckpointLoaderSimple", ckpt_name=models_dir.name(key))


def image(width, height):
    return lambda models_dir: node("EmptyImage", width=width, height=height, **FLAT)


def applied(checkpoint_key):
    def build(server, models_dir, style_name):
        return styled_graph(models_dir, style_name, checkpoint_key)

    return build


def only(node_id, checkpoint_key):
    """Return a graph that applies an SD1 style with one of the two nodes only."""

    def build(server, models_dir, style_name):
        graph = styled_graph(models_dir, style_name, checkpoint_key)
        graph = {key: graph[key] for key in ("checkpoint", "style", node_id)}
        return graph | {"show": node("PreviewAny", source=[node_id, 0])}

    return build


IN_SERVER = {
    "training on SD3 with the VAE of SD1": (
        trained_on({"other": checkpoint("sd3"), "train": {"model": ["other", 0]}}),
        ["another kind of model than SD3.5", "Connect the VAE of the checkpoint"],
    ),
    "adapters of SD1 on SD3": (
        only("adapters", "sd3"),
        ["trained on SD1.x; this model is SD3.5", "Use a model like the one it was trained on"],
    ),
    "adapters of SD1 on SDXL": (
        only("adapters", "sdxl"),
        ["trained on SD1.x; this model is SDXL", "Use a model like the one it was trained on"],
    ),
    "embedding of SD1 on SDXL": (
        only("positive", "sdxl"),
        ["with the CLIP of SD1.x", "clip is of SDXL", "Connect the CLIP of the model"],
    ),
    "no clip in training": (
        trained_on({"other": checkpoint("unet_only"), "train": {"clip": ["other", 1]}}),
        ["The socket clip brings nothing", "Connect a checkpoint's CLIP"],
    ),
    "no clip in applying": (
        only("positive", "unet_only"),
        ["The socket clip brings nothing", "Connect a checkpoint's CLIP"],
    ),
    "no vae": (
        trained_on({"other": checkpoint("unet_only"), "train": {"vae": ["other", 2]}}),
        ["The socket vae brings nothing", "Connect a checkpoint's VAE or a VAE Loader"],
    ),
    "clip of SDXL on SD1": (
        trained_on({"other": checkpoint("sdxl"), "train": {"clip": ["other", 1]}}),
        ["clip is of SDXL", "the model, which is SD1.x", "CLIP of the same checkpoint"],
    ),
    "no S* in the prompt": (
        trained_on({"train": {"prompt": "a painting of a woman, GRASS*"}}),
        ["does not name the style", "Write, for example: A painting of a woman in S* style"],
    ),
    "an empty prompt": (
        trained_on({"train": {"prompt": "  "}}),
        ["The training prompt is empty", "for example: A painting of a woman in S* style"],
    ),
    "one pixel": (
        trained_on({"image": image(1, 1), "train": {"style_image": ["image", 0]}}),
        ["style_image is 1 x 1 pixels", "each side must be 64 or more", "Use a larger picture"],
    ),
    "extreme aspect": (
        trained_on({"image": image(1000, 70), "train": {"face_image": ["image", 0]}}),
        ["face_image is 1000 x 70 pixels", "at most 4 : 1 is taken", "Crop it first"],
    ),
    "odd resolution": (
        trained_on({"train": {"resolution": 100}}),
        ["resolution is 100; expected 0 or a multiple of 64"],
    ),
    "no weight at all": (
        trained_on({"train": {"style_weight": 0.0, "face_weight": 0.0}}),
        ["style_weight and face_weight must be above 0", "Raise them"],
    ),
}


@pytest.mark.parametrize("case", IN_SERVER)
def test_a_mistake_is_told_in_the_server(server, models_dir, style_name, case):
    build, sentences = IN_SERVER[case]
    before = set(server.styles_dir.rglob("*"))
    error = server.run_failing(build(server, models_dir, style_name))
    for sentence in sentences:
        assert sentence in error
    assert RAW_ERRORS.search(error) is None
    assert set(server.styles_dir.rglob("*")) == before


def test_the_unchanged_graphs_of_those_mistakes_run(server, models_dir, style_name):
    server.run(training_graph(server, models_dir))
    server.run(styled_graph(models_dir, style_name))


def with_nan(pictures):
    pictures = pictures.clone()
    pictures[0, 3, 4, 1] = float("nan")
    return pictures


PICTURES = {
    "NaN": (with_nan(picture(1)), r"{} holds NaN or infinite values; .*Check what made it"),
    "infinite": (picture(1) / 0, r"{} holds NaN or infinite values"),
    "empty batch": (picture(1)[:0], r"{} is an empty batch: .*Give one"),
    "no picture": (torch.zeros(64, 64), r"{} must be pictures of shape .*Convert it"),
    "five channels": (picture(1, channels=5), r"{} must be pictures of shape .*\(1, 64, 64, 5\)"),
    "low": (picture(1, height=63), r"{} is 64 x 63 pixels; .*Use a larger picture"),
}


@pytest.mark.parametrize("role", ["style_image", "face_image"])
@pytest.mark.parametrize("case", PICTURES)
def test_a_useless_picture_is_refused_before_training(acfun, role, case):
    pictures, reason = PICTURES[case]
    acfun.texts.clear()
    with pytest.raises(acfun.error, match=reason.format(role)) as error:
        acfun.train(**{role: pictures})
    assert acfun.texts == [str(error.value)]


def test_alpha_grey_and_large_pictures_are_converted(acfun):
    def loss_of(pictures):
        return acfun.train(style_image=pictures, face_image=pictures, steps=1)[1]

    colour, grey, wide = picture(1), picture(1, channels=1), picture(1, 2000, 8000)
    clear = torch.cat([colour, torch.zeros_like(grey)], dim=-1)
    losses = loss_of(colour), loss_of(grey), loss_of(clear)
    assert len({*map(tuple, losses)}) == 3
    assert loss_of(torch.cat([colour, torch.ones_like(grey)], dim=-1)) == losses[0]
    assert loss_of(grey.expand(-1, -1, -1, 3)) == losses[1]
    assert loss_of(torch.ones_like(colour)) == losses[2]
    assert loss_of(wide) == loss_of(wide[:, :, 3000:5000])


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (
            torch.zeros(1, 64, 64),
            r"face_mask is empty: it is black all over.*Paint the face .*or leave",
        ),
        (torch.ones(2, 64, 64), r"face_mask must hold one mask or one per face photo \(1\)"),
        (torch.full((1, 64, 64), float("nan")), "face_mask holds NaN"),
    ],
    ids=["empty", "two masks", "NaN"],
)
def test_a_useless_face_mask_is_refused(acfun, mask, reason):
    with pytest.raises(acfun.error, match=reason):
        acfun.train(face_mask=mask)


def narrower(style):
    """Return a style as if trained with a smaller CLIP vision model."""
    keys = ("key.weight", "value.weight")
    abstract = {n: t[:, :768] if n.endswith(keys) else t for n, t in style.abstract.items()}
    return replace(style, style_tokens=style.style_tokens[:, :768], abstract=abstract)


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (narrower, {}, r"tokens 768 wide; this CLIP vision model gives 1024\. Use the one"),
        (
            lambda style: style,
            {"checkpoint": "sd2_v"},
            r"on SD1\.x; this model is SD2\.x\. Use the model",
        ),
        (lambda style: style, {"rank": 9}, r"another rank .*Set the rank it was trained with"),
    ],
    ids=["clip_vision", "model", "rank"],
)
def test_resuming_with_other_models_or_options_is_refused(acfun, change, options, reason):
    with pytest.raises(acfun.error, match=reason):
        acfun.train(**options, seed=50, resume_from=change(acfun.style()))


@pytest.mark.parametrize("socket", ["model", "clip", "vae", "clip_vision"])
def test_an_empty_socket_is_named(acfun, socket):
    with pytest.raises(acfun.error, match=rf"The socket {socket} brings nothing\. Connect "):
        acfun.train(**{socket: None})


def test_a_prompt_of_nothing_but_stand_ins_is_refused(acfun, comfy):
    words = "sks lun grr zwx hta ucc phol q z x j"
    clip = comfy.checkpoint("sd1")[1]
    with pytest.raises(acfun.error, match=r"holds all of the words .* Remove one of them"):
        acfun.embed(acfun.style(), clip, f"{words} S*")
    acfun.embed(acfun.style(), clip, words)


def test_adapters_that_could_never_act_are_refused(acfun, comfy):
    with pytest.raises(acfun.error, match=r"start_percent \(0\.6\) is after end_percent \(0\.5\)"):
        acfun.adapt(comfy.checkpoint("sd1")[0], acfun.style(), start_percent=0.6, end_percent=0.5)
