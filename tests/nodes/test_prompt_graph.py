"""What Save ACFun Style reads from the prompt: its picture's name, and whence its preview comes."""

from __future__ import annotations

import pytest
from comfy_graphs import node


@pytest.fixture
def graph(acfun):
    from acfun_pack.nodes.comfyui import prompt_graph

    return prompt_graph


def prompt(style="monet.png", face="me.jpg", **nodes):
    return {
        "face": node("LoadImage", image=face),
        "picture": node("LoadImage", image=style),
        "train": node("ACFunTrainStyle", style_image=["picture", 0], face_image=["face", 0]),
        "save": node("ACFunSaveStyle", style=["train", 0], filename_prefix=""),
    } | nodes


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("monet.png", "monet"),
        ("old/water lilies.JPEG [input]", "water lilies"),
        ("old\\海辺の絵.webp", "海辺の絵"),
        ("a:b?%c.png", "a_b_c"),
        ("x" * 50 + ".png", "x" * 40),
        ("... .png", ""),
        ("me.jpg", ""),
        ("no picture", ""),
    ],
)
def test_a_style_is_called_after_its_picture(graph, file, name):
    assert graph.style_image_name(prompt(file), "save") == name


def test_the_name_is_found_through_other_nodes_and_never_the_face(graph):
    behind = prompt(
        mixed=node("ImageBatch", image1=["face", 0], image2=["scaled", 0]),
        scaled=node("ImageScale", image=["picture", 0], upscale_method="a.b"),
        train=node("ACFunTrainStyle", style_image=["mixed", 0], face_image=["face", 0]),
        again=node("ACFunSaveStyle", style=["save", 0], filename_prefix=""),
    )
    assert graph.style_image_name(behind, "again") == "monet"
    loaded = prompt(train=node("ACFunLoadStyle", style_file="monet.png"))
    assert graph.style_image_name(loaded, "save") == ""
    assert graph.style_image_name({}, "save") == ""


def test_only_the_link_to_the_previews_of_the_same_training_is_dropped(graph):
    linked = prompt(
        own=node("ACFunSaveStyle", style=["train", 0], preview=["train", 2]),
        drawn=node("ACFunSaveStyle", style=["train", 0], preview=["picture", 0]),
        other=node("ACFunSaveStyle", style=["picture", 0], preview=["train", 2]),
        shown=node("PreviewImage", preview=["train", 2], style=["train", 0]),
    )
    kept = {name: dict(value["inputs"]) for name, value in linked.items()}
    assert graph.drop_preview_links({"prompt": linked})["prompt"] is linked
    del kept["own"]["preview"]
    assert {name: value["inputs"] for name, value in linked.items()} == kept


@pytest.mark.parametrize("request_of", [{}, {"prompt": 1}, {"prompt": {"1": None, "2": {}}}])
def test_a_request_that_is_no_prompt_passes(graph, request_of):
    assert graph.drop_preview_links(request_of) == request_of


@pytest.mark.parametrize(
    ("style", "preview", "shows"),
    [
        (["train", 0], ["train", 2], True),
        (["train", 0], ["scaled", 0], True),
        (["save", 0], ["scaled", 0], True),
        (["train", 0], ["picture", 0], False),
        (["train", 0], ["drawn", 0], False),  # With the trained style.
        (["picture", 0], ["train", 2], False),
        (["train", 0], "previews", False),
    ],
)
def test_a_preview_is_known_to_come_from_the_training_that_is_saved(graph, style, preview, shows):
    linked = prompt(
        last=node("ImageFromBatch", image=["train", 2]),
        scaled=node("ImageScale", image=["last", 0]),
        drawn=node("ACFunStyleSheet", style=["train", 0]),
        shown=node("ACFunSaveStyle", style=style, preview=preview),
    )
    assert graph.shows_its_training(linked, "shown") == shows
    assert not graph.shows_its_training(linked, "save")
    assert not graph.shows_its_training({}, "shown")


@pytest.mark.parametrize(("kind", "needs"), [("PreviewImage", True), ("ACFunSaveStyle", False)])
def test_a_save_node_does_not_need_previews(graph, kind, needs):
    taken = prompt(taker=node(kind, images=["train", 2]))
    assert graph.passes_previews(taken, "train") == needs
    assert not graph.passes_previews(taken, "other")
