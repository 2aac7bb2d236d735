"""Names that come through links, in both releases: checked before a training runs for them."""

from __future__ import annotations

from comfy_graphs import node
from comfy_server import failure_text
from style_graphs import saved_style, training_graph


def test_a_linked_name_is_refused_before_the_training(either_server, models_dir):
    graph = training_graph(either_server, models_dir, seed=46, steps=1)
    graph["name"] = node("PrimitiveString", value="a:b")
    graph["save_style"]["inputs"]["filename_prefix"] = ["name", 0]
    before = set(either_server.styles_dir.rglob("*"))
    history = either_server.wait(either_server.queue(graph))
    assert "Node save_style" in failure_text(history)
    assert "without a colon" in failure_text(history)
    assert "train" not in either_server.executed_nodes(history)
    assert set(either_server.styles_dir.rglob("*")) == before
    graph["losses"] = node("PreviewAny", source=["train", 1])  # The training runs for this, too.
    for name, is_cached in (("linked", False), ("renamed", True)):
        graph["name"]["inputs"]["value"] = name
        history = either_server.run(graph)
        path = saved_style(history)
        assert path.name == f"{name}_00001_.safetensors"
        assert ("train" in either_server.cached_nodes(history)) == is_cached
    load = {
        "style": node("ACFunLoadStyle", style_file=None),
        "save_style": node("ACFunSaveStyle", style=["style", 0], filename_prefix="copy"),
    }
    assert "style_file is null; expected the name of a file" in either_server.run_failing(load)
