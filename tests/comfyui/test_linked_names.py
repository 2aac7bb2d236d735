"""Names that come through links, in both releases: checked before a training runs for them."""

from __future__ import annotations

import pytest
from comfy_graphs import node
from comfy_server import failure_text
from style_graphs import saved_style, training_graph


@pytest.fixture(params=["server", "old_server"])
def release(request):
    return request.getfixturevalue(request.param)


def test_a_linked_name_is_refused_before_the_training(release, models_dir):
    graph = training_graph(release, models_dir, seed=46, steps=1)
    graph["name"] = node("PrimitiveString", value="a:b")
    graph["save_style"]["inputs"]["filename_prefix"] = ["name", 0]
    before = set(release.styles_dir.rglob("*"))
    history = release.wait(release.queue(graph))
    assert "Node save_style" in failure_text(history)
    assert "without a colon" in failure_text(history)
    assert "train" not in release.executed_nodes(history)
    assert set(release.styles_dir.rglob("*")) == before
    graph["losses"] = node("PreviewAny", source=["train", 1])  # The training runs for this, too.
    for name, is_cached in (("linked", False), ("renamed", True)):
        graph["name"]["inputs"]["value"] = name
        history = release.run(graph)
        path = saved_style(history)
        assert path.name == f"{name}_00001_.safetensors"
        assert ("train" in release.cached_nodes(history)) == is_cached
    load = {
        "style": node("ACFunLoadStyle", style_file=None),
        "save_style": node("ACFunSaveStyle", style=["style", 0], filename_prefix="copy"),
    }
    assert "style_file is null; expected the name of a file" in release.run_failing(load)
