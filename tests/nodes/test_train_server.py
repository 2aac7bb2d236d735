"""Train ACFun Style in a server: what the user sees, the files it leaves, and the cache."""

from __future__ import annotations

import re

import numpy as np
import pytest
from comfy_graphs import node
from PIL import Image
from style_graphs import TRAINING, kept_training, saved_style, styled_graph, training_graph

SHOWN = node("PreviewAny", source=["load", 0])


@pytest.fixture
def graph(server, models_dir):
    return training_graph(server, models_dir)


def test_progress_previews_losses_and_the_place_of_the_style_are_shown(acfun, server, graph):
    graph["train"]["inputs"] |= {"steps": 3, "preview_every": 2}
    graph["plot"] = node("LossGraphNode", loss=["train", 1], filename_prefix="loss")
    graph["previews"] = node("SaveImage", images=["train", 2], filename_prefix="preview")
    history = server.run(graph)
    messages = server.messages(history)
    progress = messages.progress("train")
    assert progress[-1] == (3, 3)
    assert {total for _, total in progress} == {3}
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert len(messages.previews()) == 3
    pictures = server.images(history, "previews")
    assert [picture.shape for picture in pictures] == [(64, 64, 3)] * 3
    assert not np.array_equal(pictures[0], pictures[2])
    assert server.images(history, "plot")[0].std() > 1
    texts = messages.texts("train")
    assert "Loading the models." in texts
    assert any(re.fullmatch(r"step \d of 3, loss \d\.\d{4}.*", text) for text in texts)
    assert history["outputs"]["train"]["text"] == [texts[-1]]
    name = re.fullmatch(r"Trained 3 steps\. It is kept as (.*) \(press R to list it\)\.", texts[-1])
    prompt = TRAINING["prompt"]
    assert re.fullmatch(rf"training/{re.escape(prompt)}, 3 steps, .{{16}} #[0-9a-f]{{8}}", name[1])
    kept = acfun.style_file.load_style(kept_training(server.styles_dir, texts[-1]))
    path = saved_style(history)
    assert path.parent == server.styles_dir
    saved = acfun.style_file.load_style(path)
    assert saved.digest == kept.digest
    assert (kept.card.title, saved.card.title) == (prompt, path.name.split("_")[0])
    size = f"({path.stat().st_size / 1e6:.2f} MB, 3 steps)"
    said = f"Saved {path.name} {size} in {path.parent}, with its preview beside it"
    assert messages.texts("save_style")[-1] == said
    with Image.open(path.with_suffix(".preview.jpg")) as beside:
        saved = np.asarray(beside).astype(int)
    assert np.abs(saved - pictures[2]).mean() < np.abs(saved - pictures[0]).mean()
    required = server.object_info("ACFunLoadStyle")["ACFunLoadStyle"]["input"]["required"]
    assert path.name in str(required["style_file"]) and name[1] not in str(required["style_file"])
    server.run({"load": node("ACFunLoadStyle", style_file=name[1]), "show": SHOWN})


@pytest.mark.parametrize("through", [False, True], ids=["direct", "through a node"])
def test_a_training_without_previews_is_saved_all_the_same(server, graph, through):
    graph["train"]["inputs"] |= {"seed": 20 + through, "preview_every": 0}
    graph["inverted"] = node("ImageInvert", image=["train", 2])
    preview = ["inverted", 0] if through else ["train", 2]
    graph["save_style"]["inputs"] |= {"preview": preview, "filename_prefix": ""}
    graph["load"] = node(
        "ACFunBlendStyles",
        style_a=["save_style", 0],
        style_b=["save_style", 0],
        ratio=0.5,
        mode="blend",
    )
    graph["show"] = SHOWN
    history = server.run(graph)
    path = saved_style(history)
    assert path.name.startswith("style_image_") and path.is_file()
    assert not path.with_suffix(".preview.jpg").exists()
    assert "show" in server.executed_nodes(history)
    assert (
        ", without a preview: the training has left none"
        in history["outputs"]["save_style"]["text"][0]
    )
    if not through:
        return
    server.forget()
    graph["train"]["inputs"]["preview_every"] = 2
    with Image.open(saved_style(server.run(graph)).with_suffix(".preview.jpg")) as beside:
        inverted = np.asarray(beside).astype(int)
    graph["save_style"]["inputs"] |= {"preview": ["train", 2], "filename_prefix": "usual"}
    with Image.open(saved_style(server.run(graph)).with_suffix(".preview.jpg")) as beside:
        assert np.abs(np.asarray(beside) - (255 - inverted)).mean() < 8


def test_without_previews_only_the_previews_output_is_blocked(server, graph):
    graph["train"]["inputs"]["seed"] = 10
    graph["plot"] = node("LossGraphNode", loss=["train", 1], filename_prefix="loss")
    graph["previews"] = node("SaveImage", images=["train", 2], filename_prefix="preview")
    history = server.run(graph)
    assert "previews" not in history["outputs"]
    assert server.messages(history).previews() == []
    said = "There are no previews, so nodes connected to previews do not run."
    assert said in history["outputs"]["train"]["text"][0]
    del graph["previews"]
    server.forget()
    assert said not in server.run(graph)["outputs"]["train"]["text"][0]
    assert saved_style(history).is_file()
    assert server.images(history, "plot")


def test_two_trainings_give_the_same_file_and_another_seed_another(server, graph):
    graph["train"]["inputs"]["seed"] = 11
    first = saved_style(server.run(graph)).read_bytes()
    server.forget()
    history = server.run(graph)
    assert "train" in server.executed_nodes(history)
    assert saved_style(history).read_bytes() == first
    graph["train"]["inputs"]["seed"] = 12
    assert saved_style(server.run(graph)).read_bytes() != first


def test_a_queue_without_changes_trains_once(server, graph):
    graph["train"]["inputs"]["seed"] = 13
    server.run(graph)
    assert server.executed_nodes(server.run(graph)) == []
    graph["save_style"]["inputs"]["filename_prefix"] = "another"
    again = server.run(graph)
    assert "train" in server.cached_nodes(again)
    # Twice: its lazy inputs are asked for in between.
    assert set(server.executed_nodes(again)) == {"save_style"}
    graph["train"]["inputs"]["style_weight"] = 0.7
    assert "train" in server.executed_nodes(server.run(graph))


@pytest.fixture
def signature(acfun, monkeypatch):
    """Return a function that gives ComfyUI's cache key of the node train of a graph."""
    import asyncio

    from comfy_execution.caching import CacheKeySetInputSignature
    from comfy_execution.graph import DynamicPrompt
    from execution import IsChangedCache

    import nodes

    for node_id, node_class in acfun.nodes.items():
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, node_id, node_class)

    def signature(graph):
        prompt = DynamicPrompt(graph)
        keys = CacheKeySetInputSignature(prompt, graph, IsChangedCache("prompt", prompt, None))
        asyncio.run(keys.add_keys(["train"]))
        return keys.get_data_key("train")

    return signature


def changed(value):
    return value + "!" if isinstance(value, str) else value + 1


def test_every_input_of_train_is_in_the_cache_key(acfun, signature):
    schema = acfun.nodes["ACFunTrainStyle"].GET_SCHEMA()
    inputs = {i.id: TRAINING.get(i.id, f"value of {i.id}") for i in schema.inputs}
    assert inputs.keys() > TRAINING.keys()
    graph = {"train": node("ACFunTrainStyle", **inputs)}
    original = signature(graph)
    assert signature({"train": node("ACFunTrainStyle", **inputs)}) == original
    for name, value in inputs.items():
        assert signature({"train": node("ACFunTrainStyle", **inputs | {name: changed(value)})}) != (
            original
        ), name


def test_load_reads_a_file_again_when_it_has_changed(acfun, server, models_dir):
    path = server.styles_dir / "changing.safetensors"
    graph = styled_graph(models_dir, path.name)
    path.write_bytes(acfun.bytes_of(acfun.style()))
    first = server.images(server.run(graph), "save")[0]
    assert server.executed_nodes(server.run(graph)) == []
    path.write_bytes(acfun.bytes_of(acfun.style("sd1", 1)))
    history = server.run(graph)
    assert "style" in server.executed_nodes(history)
    assert not np.array_equal(server.images(history, "save")[0], first)
    path.unlink()


def test_a_crash_of_a_later_node_leaves_the_style_on_disk(server, models_dir, graph):
    graph["train"]["inputs"]["seed"] = 14
    graph["other"] = node("CheckpointLoaderSimple", ckpt_name=models_dir.name("sd3"))
    adapters = {"model": ["other", 0], "style": ["train", 0]}
    del graph["save_style"]
    graph["adapters"] = styled_graph(models_dir, "unused")["adapters"]
    graph["adapters"]["inputs"] |= adapters
    graph["show"] = node("PreviewAny", source=["adapters", 0])
    before = set((server.styles_dir / "training").glob("*"))
    error = server.run_failing(graph)
    assert "ACFunApplyAdapters" in error
    kept = set((server.styles_dir / "training").iterdir()) - before
    assert {path.suffix for path in kept} == {".safetensors", ".history"}


def several_pictures(server, folder):
    for number, (height, width) in enumerate(((64, 64), (80, 64), (64, 96))):
        pixels = np.random.default_rng(number).integers(
            0, 256, (height // 8, width // 8, 3), np.uint8
        )
        server.add_input(f"{folder}/{number}.png", pixels.repeat(8, axis=0).repeat(8, axis=1))


def test_a_list_of_pictures_trains_one_style(models_dir, server):
    several_pictures(server, "ds")
    graph = training_graph(server, models_dir, seed=15)
    graph["several"] = node("LoadImageDataSetFromFolder", folder="ds")
    graph["train"]["inputs"]["style_image"] = ["several", 0]
    history = server.run(graph)
    texts = server.messages(history).texts("train")
    assert len([text for text in texts if "Trained 2 steps." in text]) == 1
    assert "style pictures: 3 and face photos: 1" in texts[-1]
    assert "style_image (2 of 3) is cut to the centred square" in texts[-1]
    assert len(history["outputs"]["save_style"]["text"]) == 1


def test_a_finished_style_is_taken_after_a_restart_unless_retrain_is_on(server, graph):
    graph["train"]["inputs"] |= {"seed": 16, "retrain": False}
    first = saved_style(server.run(graph)).read_bytes()
    server.forget()
    again = server.run(graph)
    text = server.messages(again).texts("train")[-1]
    assert "trained before on the same pictures, settings and models" in text
    assert again["outputs"]["train"]["text"] == [text]
    assert saved_style(again).read_bytes() == first
    graph["train"]["inputs"]["retrain"] = True
    assert "Trained 2 steps." in server.messages(server.run(graph)).texts("train")[-1]


def test_an_error_stands_on_the_node_and_goes_with_the_next_run(server, graph):
    graph["train"]["inputs"] |= {"seed": 17, "resolution": 100}
    prompt_id = server.queue(graph)
    failed = server.messages(server.wait(prompt_id)).texts("train")
    assert "resolution is 100; expected 0 or a multiple of 64." in failed[-1]
    graph["train"]["inputs"]["resolution"] = TRAINING["resolution"]
    texts = server.messages(server.run(graph)).texts("train")
    assert texts[0].strip() == ""
    assert all("resolution is" not in text for text in texts)
