"""The translations, as ComfyUI serves them to its page."""

from __future__ import annotations

import json
import re

import pytest
from workflow_prompts import ROOT

LANGUAGES = ("zh", "ja")
PACK_NAME = "acfun"
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# vue-i18n, which shows these texts, reads them as its own syntax.
SYNTAX = "{}@|$"


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request):
    return request.param


@pytest.fixture(scope="module")
def nodes(server):
    """Return what the server says of each of our nodes."""
    return {n: info for n, info in server.object_info().items() if info["category"] == "ACFun"}


def inputs_of(info):
    return info["input"].get("required", {}) | info["input"].get("optional", {})


@pytest.fixture(scope="module")
def node_defs(server, language):
    return server.get_json("/i18n")[language]["nodeDefs"]


def test_page_gets_the_file(node_defs, language):
    path = ROOT / "locales" / language / "nodeDefs.json"
    assert node_defs == json.loads(path.read_text(encoding="utf-8"))


def test_every_node_name_and_tooltip_is_translated(nodes, node_defs):
    assert sorted(node_defs) == sorted(nodes)
    for node, info in nodes.items():
        translated, inputs = node_defs[node], inputs_of(info)
        assert translated["inputs"].keys() == inputs.keys(), node
        assert list(translated["outputs"]) == [str(i) for i in range(len(info["output"]))], node
        texts = [translated["display_name"], translated["description"]]
        for entry in [*translated["inputs"].values(), *translated["outputs"].values()]:
            texts += [entry["name"], entry["tooltip"]]
        assert all(texts), node
        assert not set(SYNTAX) & set("".join(texts)), node


def test_no_tooltip_is_older_than_the_english_one(nodes, node_defs):
    for node, info in nodes.items():
        for name, spec in inputs_of(info).items():
            english, other = spec[1]["tooltip"], node_defs[node]["inputs"][name]["tooltip"]
            assert english != other
            assert set(NUMBER.findall(english)) <= set(NUMBER.findall(other)), f"{node}.{name}"


def test_the_page_finds_the_help_in_its_language(server, nodes, language):
    for node in nodes:
        served = server.request(f"/extensions/{PACK_NAME}/docs/{node}/{language}.md").decode()
        page = ROOT / "web" / "docs" / node / f"{language}.md"
        assert served == page.read_text(encoding="utf-8")
