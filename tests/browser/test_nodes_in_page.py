"""The pack's nodes in ComfyUI's real page: help, translation, fresh widgets."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from page_setup import LAPTOP_VIEW, PAGE

from acfun_ops.messages import Message, join_messages, to_json
from acfun_ops.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
PACK_NAME = "acfun"
LABELS = {
    "ACFunTrainStyle": "Train ACFun Style",
    "ACFunApplyStyle": "Apply ACFun Style",
    "ACFunApplyEmbedding": "Apply AFun Embedding",
    "ACFunApplyAdapters": "Apply CFun Adapters",
    "ACFunBlendStyles": "Blend ACFun Styles",
    "ACFunSaveStyle": "Save ACFun Style",
    "ACFunLoadStyle": "Load ACFun Style",
    "ACFunStyleSheet": "ACFun Style Sheet",
}


SCREENS = """(panel) => {
    const pane = panel.closest('.overflow-y-auto');
    return pane.scrollHeight / pane.clientHeight;
}"""


@pytest.mark.parametrize("node_id", LABELS)
def test_help_page_opens_and_has_two_screens_at_most(comfy_page, node_id):
    comfy_page.place(node_id)
    panel = comfy_page.open_help()
    assert panel.locator("h1").inner_text() == LABELS[node_id]
    assert panel.locator("li").count() >= 5
    pictures = panel.locator("img")
    assert pictures.count() >= 1
    for picture in pictures.all():
        comfy_page.page.wait_for_function("(image) => image.complete", arg=picture.element_handle())
        assert picture.evaluate("(image) => image.naturalWidth") >= 200
    comfy_page.page.set_viewport_size(LAPTOP_VIEW)
    assert panel.evaluate(SCREENS) <= 2
    comfy_page.page.set_viewport_size(PAGE["viewport"])
    assert comfy_page.problems() == []


@pytest.mark.parametrize("node_id", LABELS)
def test_the_long_page_names_every_input_and_output(page_server, node_id):
    served = page_server.request(f"/extensions/{PACK_NAME}/docs/{node_id}.md").decode()
    assert served == (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    text = (ROOT / "docs" / "nodes" / f"{node_id}.md").read_text(encoding="utf-8")
    info = page_server.object_info(node_id)[node_id]
    inputs = [*info["input"].get("required", {}), *info["input"].get("optional", {})]
    for name in [*inputs, *info["output_name"]]:
        described = re.search(rf"^- [^:]*`{name}`[^:]*:", text, re.MULTILINE)
        assert described or name == name.upper(), f"{name} is not described"


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("face", "Train ACFun Style"),
        # "style" alone is in all names, by which the page ranks them.
        ("portrait", "Train ACFun Style"),
        ("stylize", "Train ACFun Style"),
        ("compare", "ACFun Style Sheet"),
        ("grid", "ACFun Style Sheet"),
    ],
)
def test_search_offers_first_of_ours_what_people_look_for(comfy_page, words, first):
    offered = comfy_page.search(words, [first])
    assert next(label for label in offered if label in LABELS.values()) == first


def test_fresh_training_node_has_the_defaults(comfy_page):
    comfy_page.place("ACFunStyleSheet")  # It has other steps.
    comfy_page.place("ACFunTrainStyle")
    widgets = comfy_page.widgets()
    assert "control_after_generate" not in widgets  # It would retrain on every queue.
    defaults = {field: spec.default for field, spec in TrainConfig.__dataclass_fields__.items()}
    defaults |= {"preset": "balanced", "retrain": False, "advanced": None}  # A button.
    assert widgets == {name: defaults[name] for name in widgets}
    assert len(widgets) == 15


EXECUTED = """(output) => {
    const detail = { node: String(app.graph._nodes[0].id), output };
    window.comfyAPI.api.api.dispatchEvent(new CustomEvent('executed', { detail }));
}"""
PROGRESS_TEXT = """(detail) => window.comfyAPI.api.api.dispatchEvent(
    new CustomEvent('progress_text', { detail }))"""
SENT = """(sent) => {
    const { api } = window.comfyAPI.api;
    const node = String(app.graph._nodes[0].id);
    api.dispatchEvent(new CustomEvent('acfun.message', { detail: { ...sent, node } }));
    const detail = { nodeId: node, text: sent.text };
    api.dispatchEvent(new CustomEvent('progress_text', { detail }));
}"""
LOADING = "Loading the models."


@pytest.fixture(scope="module")
def chinese_page(page_server, chromium):
    from comfy_page import ComfyPage

    page_server.request("/settings", {"Comfy.Locale": "zh"})
    page = chromium.new_page(reduced_motion=PAGE["reduced_motion"])
    opened = ComfyPage(page, page_server.address, "ACFunTrainStyle")
    opened.open()
    yield opened
    page_server.request("/settings", {"Comfy.Locale": "en"})
    page.close()


def test_page_in_chinese_shows_the_translation(chinese_page):
    chinese_page.place("ACFunApplyAdapters")
    node = chinese_page.page.evaluate(
        "() => [app.graph._nodes[0].title, app.graph._nodes[0].widgets[0].label]"
    )
    assert node == ["应用 CFun 适配器", "强度"]


def shown_for(page, message):
    """Return what a new Train node shows of a message that its run has left."""
    page.place("ACFunTrainStyle")
    before = page.widgets()
    page.page.evaluate(EXECUTED, {"text": [str(message)], "acfun": [to_json(message)]})
    (shown,) = [v for k, v in page.widgets().items() if k not in before]
    return shown


def test_what_a_node_says_is_shown_in_chinese(chinese_page):
    # A value that looks like a sentence of ours, a hole or HTML stays as it is.
    name = "training/A man. {steps} <b> Old. Loading it"
    kept = Message("It is kept as {name} (press R to list it).{pruned}", name=name, pruned="")
    message = join_messages(
        "\n", [LOADING, join_messages(" ", [Message("Trained {step} steps.", step=2), kept])]
    )
    shown = shown_for(chinese_page, message)
    assert shown.startswith(
        "正在加载模型。\n已训练 2 步。 已保留为 training/A man. {steps} &lt;b&gt; Old."
    )
    assert chinese_page.problems() == []


def test_a_long_value_costs_the_page_no_time(chinese_page):
    words = ". A woman, 3 steps, by S, trained with: " * 150
    label = Message(
        "{kind}, {steps} steps, {date}, {size} MB{author}{under}, trained with: {prompt}",
        **{"kind": "sd1", "steps": 3, "date": "2026-01-01", "size": "7", "author": words},
        **{"under": "", "prompt": words},
    )
    began = time.monotonic()
    shown = shown_for(chinese_page, label)
    assert "训练提示词" in shown and shown.count("A woman, 3 steps") == 300
    assert time.monotonic() - began < 10  # Patterns with lazy holes took minutes for this.


def test_a_damaged_style_is_told_as_soon_as_it_is_chosen(comfy_page):
    comfy_page.place("ACFunLoadStyle")  # Its first file is an empty one.
    comfy_page.page.wait_for_function(
        "() => app.graph._nodes[0].widgets.some(({ value }) => /is no usable/.test(value))"
    )
    assert comfy_page.problems() == []


def test_what_another_packs_node_says_is_left_alone(chinese_page):
    chinese_page.place("PreviewAny")
    before = chinese_page.widgets()
    chinese_page.page.evaluate(EXECUTED, {"text": [LOADING]})
    text = {"nodeId": "1", "text": LOADING}
    chinese_page.page.evaluate(PROGRESS_TEXT, text)
    assert [
        v for k, v in chinese_page.widgets().items() if k not in before and "正在" in str(v)
    ] == []


def test_a_text_is_translated_by_the_message_that_was_sent_before_it(chinese_page):
    chinese_page.place("ACFunTrainStyle")
    before = chinese_page.widgets()
    chinese_page.page.evaluate(SENT, {"node": "", "text": LOADING, "message": LOADING})
    (shown,) = [v for k, v in chinese_page.widgets().items() if k not in before]
    assert shown == "正在加载模型。"


def test_a_run_from_the_cache_shows_what_the_training_said(comfy_page):
    comfy_page.place("ACFunTrainStyle")
    before = comfy_page.widgets()
    output = {"text": ["Trained <2> steps."], "acfun": ["Trained <2> steps."]}
    comfy_page.page.evaluate(EXECUTED, output)
    shown = {k: v for k, v in comfy_page.widgets().items() if k not in before}
    assert list(shown.values()) == ["Trained &lt;2&gt; steps."]
    comfy_page.page.evaluate(EXECUTED, {"text": ["of another pack"]})
    assert {k: v for k, v in comfy_page.widgets().items() if k not in before} == shown
    assert comfy_page.problems() == []
