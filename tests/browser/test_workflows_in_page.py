"""The workflows in ComfyUI's real page: what a user sees who opens them from the templates.

Their example pictures come into ComfyUI's input folder, and the page says so if not.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pytest
from page_setup import LAPTOP_VIEW, PAGE
from workflow_prompts import load_workflow, to_prompt, workflow_names

PACK_NAME = "acfun"
COMPARED = ("id", "type", "pos", "mode", "title", "widgets_values")
# What is fitted into the view of 1366 x 768 and of 1920 x 1080 with its text still shown.
LAPTOP, DESK = (1750, 990), (2480, 1390)
FIRST = ("1 Train", "2 Apply", "3 Both halves", "14 A face")
EXAMPLES = {"acfun_style.jpg", "acfun_face.jpg"}
ANSWERS = {
    "refuses": lambda route: route.fulfill(status=413),
    "says yes and keeps nothing": lambda route: route.fulfill(status=200, body="{}"),
    "cuts off": lambda route: route.abort(),
}
SEED_CONTROLS = ("fixed", "increment", "decrement", "randomize")


@pytest.fixture(scope="module", params=workflow_names())
def name(request):
    return request.param


@pytest.fixture(scope="module")
def opened(name, comfy_page):
    comfy_page.errors.clear()
    comfy_page.open_template(PACK_NAME, name)
    return comfy_page


def test_page_has_nothing_to_complain_of(opened):
    assert opened.problems() == []


def test_graph_equals_the_file(opened, name):
    workflow, graph = load_workflow(name), opened.graph()
    for kind in ("inputs", "outputs"):
        assert slots(graph, kind).items() >= slots(workflow, kind).items()
    assert links(graph) == links(workflow)
    assert nodes(graph) == nodes(workflow)
    assert [g["title"] for g in graph["groups"]] == [g["title"] for g in workflow["groups"]]


def test_nodes_as_drawn_do_not_overlap(opened):
    overlapping = [(a[0], b[0]) for a, b in combinations(opened.boxes(), 2) if overlap(a, b)]
    assert overlapping == []


def test_text_is_shown_where_the_whole_graph_is(opened, name):
    width, height = LAPTOP if name.startswith(FIRST) else DESK
    shown = opened.extent()
    assert shown[0] <= width
    assert shown[1] <= height


def test_prompt_of_the_page_has_all_required_inputs(opened, name, page_server):
    object_info = page_server.object_info()
    prompt = opened.prompt()
    assert len(prompt) > (3 if name.startswith("13 Show us") else 5)
    for node in prompt.values():
        required = object_info[node["class_type"]]["input"]["required"]
        assert required.keys() <= node["inputs"].keys()


def test_to_prompt_equals_the_page(opened, name, page_server):
    assert to_prompt(load_workflow(name), page_server.object_info()) == opened.prompt()


def test_to_prompt_of_a_bypassed_node_equals_the_page(opened, name, page_server):
    workflow = opened.graph()
    for node in workflow["nodes"]:
        node["mode"] = 4 if node["type"] in ("ACFunApplyAdapters", "LoraLoader") else 0
    opened.page.evaluate("(graph) => app.loadGraphData(graph)", workflow)
    assert to_prompt(workflow, page_server.object_info()) == opened.prompt()


def test_there_are_few_enough_to_choose_from_and_each_node_is_in_one(page_server):
    used = {node["type"] for name in workflow_names() for node in load_workflow(name)["nodes"]}
    ours = {kind for kind in page_server.object_info() if kind.startswith("ACFun")}
    assert len(workflow_names()) <= 16
    assert used >= ours


def test_note_is_read_on_a_laptop(comfy_page):
    page = comfy_page.page
    page.set_viewport_size(LAPTOP_VIEW)
    try:
        comfy_page.open_template(PACK_NAME, workflow_names()[0])
        note = page.locator(".comfy-markdown", has_text="Choose before you run")
        assert note.is_visible()
        assert page.evaluate("() => app.canvas.ds.scale") >= 0.57
        box = note.bounding_box()
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= LAPTOP_VIEW["height"]
    finally:
        page.set_viewport_size(PAGE["viewport"])


def test_template_browser_shows_the_titles_in_order_with_their_pictures(comfy_page):
    dialog = comfy_page.browse_templates(PACK_NAME)
    cards = dialog.locator("[data-testid^=template-workflow-]")
    shown = [card.get_attribute("data-testid") for card in cards.all()]
    assert shown == [f"template-workflow-{name}" for name in workflow_names()]
    for name in workflow_names():
        assert dialog.get_by_text(name, exact=True).first.is_visible()
        card = dialog.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()  # Pictures further down are loaded when seen.
        picture = card.locator("img")
        picture.wait_for()
        comfy_page.page.wait_for_function(
            "(image) => image.naturalWidth >= 800", arg=picture.element_handle()
        )
    comfy_page.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_pictures_are_small_and_seeds_stay_fixed(name, page_server):
    path = urllib.parse.quote(f"/api/workflow_templates/{PACK_NAME}/{name}.jpg")
    picture = page_server.request(path)
    assert picture[:2] == b"\xff\xd8"
    assert len(picture) <= 200_000
    for node in load_workflow(name)["nodes"]:
        controls = [v for v in node.get("widgets_values", []) if v in SEED_CONTROLS]
        assert set(controls) <= {"fixed"}


@pytest.fixture
def folder(comfy_page, page_server):
    """Return ComfyUI's input folder, without our pictures; the page shows no message yet."""
    comfy_page.page.evaluate("() => app.extensionManager.toast.removeAll()")
    comfy_page.page.locator(".p-toast-message").first.wait_for(state="detached")
    path = page_server.base / "input"
    for name in EXAMPLES:
        (path / name).unlink(missing_ok=True)
    return path


def toast(opened, severity):
    return opened.page.locator(f".p-toast-message-{severity}").last


def test_missing_pictures_are_put_there(comfy_page, folder):
    comfy_page.open_template(PACK_NAME, workflow_names()[0])
    assert "Put into ComfyUI's input folder: " in toast(comfy_page, "info").inner_text()
    assert {path.name for path in folder.iterdir()} >= EXAMPLES


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_picture_that_the_server_does_not_take_is_named(comfy_page, folder, answer):
    comfy_page.page.route("**/upload/image", answer)
    try:
        comfy_page.open_template(PACK_NAME, workflow_names()[0])
        text = toast(comfy_page, "error").inner_text()
    finally:
        comfy_page.page.unroute("**/upload/image")
    assert text.startswith("ACFun\nComfyUI did not take acfun_")
    assert all(name in text for name in EXAMPLES)
    assert "web/examples" in text


def nodes(graph: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = [{key: node.get(key) for key in COMPARED} for node in graph["nodes"]]
    for node in kept:
        node["widgets_values"] = node["widgets_values"] or []  # The page leaves an empty list out.
    return sorted(kept, key=lambda node: node["id"])


def slots(graph: Mapping[str, Any], kind: str) -> dict[tuple[int, str], str]:
    return {
        (node["id"], slot["name"]): slot["type"]
        for node in graph["nodes"]
        for slot in node.get(kind) or []
    }


def links(graph: Mapping[str, Any]) -> set[tuple[int, int, int, str, str]]:
    """Return links by the name of the input: the page gives widgets slots, a file need not."""
    inputs = {node["id"]: node.get("inputs") or [] for node in graph["nodes"]}
    return {
        (link_id, origin, slot, inputs[target][target_slot]["name"], kind)
        for link_id, origin, slot, target, target_slot, kind in graph["links"]
    }


def overlap(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    (_, ax, ay, aw, ah), (_, bx, by, bw, bh) = a, b
    return ax < bx + bw and bx < ax + aw and ay < by + bh and by < ay + ah
