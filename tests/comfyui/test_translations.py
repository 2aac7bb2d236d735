"""The translations, as ComfyUI serves them to its page."""

from __future__ import annotations

import json

import pytest
from workflow_prompts import ROOT

LANGUAGES = sorted(path.name for path in (ROOT / "locales").iterdir())
NODES = (
    "ACFunTrainStyle",
    "ACFunApplyStyle",
    "ACFunApplyEmbedding",
    "ACFunApplyAdapters",
    "ACFunBlendStyles",
    "ACFunSaveStyle",
    "ACFunLoadStyle",
    "ACFunStyleSheet",
)
# vue-i18n, which shows these texts, reads them as its own syntax.
SYNTAX = "{}@|$"


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request):
    return request.param


@pytest.fixture(scope="module")
def node_defs(server, language):
    return server.get_json("/i18n")[language]["nodeDefs"]


def test_page_gets_the_file(node_defs, language):
    path = ROOT / "locales" / language / "nodeDefs.json"
    assert node_defs == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("node", NODES)
def test_every_name_and_tooltip_is_translated(server, node_defs, node):
    info, translated = server.object_info(node)[node], node_defs[node]
    inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
    assert translated["inputs"].keys() == inputs.keys()
    assert list(translated["outputs"]) == [str(i) for i in range(len(info["output"]))]
    texts = [translated["display_name"], translated["description"]]
    for entry in [*translated["inputs"].values(), *translated["outputs"].values()]:
        texts += [entry["name"], entry["tooltip"]]
    assert all(texts)
    assert not set(SYNTAX) & set("".join(texts))


def test_every_node_is_translated(node_defs):
    assert sorted(node_defs) == sorted(NODES)
