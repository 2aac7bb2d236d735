"""The pack's nodes in ComfyUI's real page: help, translation, fresh widgets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("node_id", LABELS)
def test_help_page_opens(comfy_page, node_id):
    comfy_page.place(node_id)
    panel = comfy_page.open_help()
    assert panel.locator("h1").inner_text() == LABELS[node_id]
    assert panel.locator("li").count() >= 5
    pictures = panel.locator("img")
    assert pictures.count() >= 1
    for picture in pictures.all():
        comfy_page.page.wait_for_function("(image) => image.complete", arg=picture.element_handle())
        assert picture.evaluate("(image) => image.naturalWidth") >= 200
    assert comfy_page.problems() == []


@pytest.mark.parametrize("node_id", LABELS)
def test_help_page_names_every_input_and_output(page_server, node_id):
    text = page_server.request(f"/extensions/{PACK_NAME}/docs/{node_id}.md").decode()
    assert text == (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    info = page_server.object_info(node_id)[node_id]
    inputs = [*info["input"].get("required", {}), *info["input"].get("optional", {})]
    for name in [*inputs, *info["output_name"]]:
        described = re.search(rf"^- [^:]*`{name}`[^:]*:", text, re.MULTILINE)
        assert described or name == name.upper(), f"{name} is not described"


@pytest.mark.parametrize(
    "words", ["face style", "stylize", "portrait", "caricature", "one-shot", "style transfer"]
)
def test_search_offers_our_nodes_for_what_people_look_for(comfy_page, words):
    ours = {"Train ACFun Style", "Apply ACFun Style"}
    assert ours <= set(comfy_page.search(words, ours))


def test_fresh_training_node_has_the_defaults(comfy_page):
    comfy_page.place("ACFunStyleSheet")  # It has other steps.
    comfy_page.place("ACFunTrainStyle")
    widgets = comfy_page.widgets()
    assert "control_after_generate" not in widgets  # It would retrain on every queue.
    defaults = {field: spec.default for field, spec in TrainConfig.__dataclass_fields__.items()}
    defaults |= {"preset": "as set below", "retrain": False}
    assert widgets == {name: defaults[name] for name in widgets}
    assert len(widgets) == 14


EXECUTED = """(output) => {
    const detail = { node: String(app.graph._nodes[0].id), output };
    window.comfyAPI.api.api.dispatchEvent(new CustomEvent('executed', { detail }));
}"""
TRAINED = "Trained <2> steps. It is kept as training/A man. Old, 2 steps (press R to list it)."


@pytest.fixture(scope="module")
def chinese_page(page_server, chromium):
    from comfy_page import ComfyPage

    page_server.request("/settings", {"Comfy.Locale": "zh"})
    page = chromium.new_page()
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


def test_what_a_node_says_is_shown_in_chinese(chinese_page):
    chinese_page.place("ACFunTrainStyle")
    before = chinese_page.widgets()
    texts = ["Loading the models.", TRAINED]
    output = {"text": ["\n".join(texts)], "acfun": [True]}
    chinese_page.page.evaluate(EXECUTED, output)
    (shown,) = [v for k, v in chinese_page.widgets().items() if k not in before]
    assert shown.startswith(
        "正在加载模型。\n已训练 &lt;2&gt; 步。 已保留为 training/A man. Old, 2 steps"
    )
    assert chinese_page.problems() == []


def test_a_damaged_style_is_told_as_soon_as_it_is_chosen(comfy_page):
    comfy_page.place("ACFunLoadStyle")  # Its first file is an empty one.
    comfy_page.page.wait_for_function(
        "() => app.graph._nodes[0].widgets.some(({ value }) => /is no usable/.test(value))"
    )
    assert comfy_page.problems() == []


def test_what_another_packs_node_says_is_left_alone(chinese_page):
    chinese_page.place("PreviewAny")
    chinese_page.page.evaluate(EXECUTED, {"text": ["Loading the models."], "acfun": [True]})
    assert "Loading the models." in chinese_page.widgets().values()


def test_a_run_from_the_cache_shows_what_the_training_said(comfy_page):
    comfy_page.place("ACFunTrainStyle")
    before = comfy_page.widgets()
    comfy_page.page.evaluate(EXECUTED, {"text": ["Trained <2> steps."], "acfun": [True]})
    shown = {k: v for k, v in comfy_page.widgets().items() if k not in before}
    assert list(shown.values()) == ["Trained &lt;2&gt; steps."]
    comfy_page.page.evaluate(EXECUTED, {"text": ["of another pack"]})
    assert {k: v for k, v in comfy_page.widgets().items() if k not in before} == shown
    assert comfy_page.problems() == []
