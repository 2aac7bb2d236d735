"""SD1, SD2 v and SDXL through a server: trained, applied, sampled; and the oldest ComfyUI."""

from __future__ import annotations

import numpy as np
import pytest
from comfy_graphs import node, text_to_image
from style_graphs import saved_style, styled_graph, training_graph

FAMILIES = {"sd1": "sd1", "sd2_v": "sd2", "sdxl": "sdxl"}


def train_and_sample(server, models_dir, checkpoint, **inputs):
    """Train and save, then load and sample; return the style's path and the styled picture."""
    trained = server.run(training_graph(server, models_dir, checkpoint, **inputs))
    path = saved_style(trained)
    sampled = server.run(styled_graph(models_dir, path.name, checkpoint))
    return path, server.images(sampled, "save")[0]


@pytest.mark.parametrize("checkpoint", FAMILIES)
def test_a_family_trains_applies_and_samples(acfun, server, models_dir, checkpoint):
    plain_graph = text_to_image(models_dir.name(checkpoint), prompt="a woman in S* style")
    plain = server.images(server.run(plain_graph), "save")[0]
    # test_restyled_face.py redraws the faces of the others, in this process and in fewer steps.
    alignment = "drawn" if checkpoint == "sd1" else "staged"
    path, styled = train_and_sample(server, models_dir, checkpoint, alignment=alignment)
    style = acfun.style_file.load_style(path)
    assert (style.facts.family, style.facts.steps) == (FAMILIES[checkpoint], 2)
    assert sorted(style.vectors) == {"sd1": ["l"], "sd2_v": ["h"], "sdxl": ["g", "l"]}[checkpoint]
    assert plain.std() > 1 and styled.std() > 1
    assert np.abs(styled.astype(int) - plain).mean() > 1
    assert path.stat().st_size <= (20 if checkpoint == "sdxl" else 8) * 2**20
    assert "invalid value encountered" not in server.log()  # What SaveImage says of NaN.


def test_each_apply_node_acts_alone(server, models_dir):
    path, both = train_and_sample(server, models_dir, "sd1")
    graph = styled_graph(models_dir, path.name)
    graph["sampler"]["inputs"]["model"] = ["checkpoint", 0]
    embedded = server.images(server.run(graph), "save")[0]
    graph["sampler"]["inputs"]["model"] = ["adapters", 0]
    graph["positive"] = node("CLIPTextEncode", clip=["checkpoint", 1], text="a woman in S* style")
    adapted = server.images(server.run(graph), "save")[0]
    plain = text_to_image(models_dir.name("sd1"), prompt="a woman in S* style")
    pictures = [both, embedded, adapted, server.images(server.run(plain), "save")[0]]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_the_oldest_comfyui_trains_applies_and_samples(acfun, old_server, models_dir):
    plain_graph = text_to_image(models_dir.name("sd1"))
    plain = old_server.images(old_server.run(plain_graph), "save")[0]
    path, styled = train_and_sample(old_server, models_dir, "sd1", alignment="drawn")
    assert acfun.style_file.load_style(path).facts.steps == 2
    assert styled.std() > 1
    assert np.abs(styled.astype(int) - plain).mean() > 1
    old_server.forget()
    again = old_server.images(old_server.run(plain_graph), "save")[0]
    assert np.array_equal(again, plain)


def test_the_oldest_comfyui_shows_progress_previews_and_losses(old_server, models_dir):
    graph = training_graph(old_server, models_dir, seed=1, preview_every=2)
    graph["plot"] = node("LossGraphNode", loss=["train", 1], filename_prefix="loss")
    graph["previews"] = node("SaveImage", images=["train", 2], filename_prefix="preview")
    history = old_server.run(graph)
    messages = old_server.messages(history)
    assert messages.progress("train")[-1] == (2, 2)
    assert len(messages.previews()) == 2
    assert messages.texts("train")[-1].startswith("Trained 2 steps. It is kept as training/")
    assert len(old_server.images(history, "previews")) == 2


def test_a_model_in_half_precision_trains_applies_and_samples(acfun, server, models_dir):
    half = node("ModelComputeDtype", model=["checkpoint", 0], dtype="fp16")
    plain_graph = text_to_image(models_dir.name("sd1"), steps=1)
    plain_graph["sampler"]["inputs"]["model"] = ["half", 0]
    plain = server.images(server.run(plain_graph | {"half": half}), "save")[0]
    graph = training_graph(server, models_dir, model=["half", 0], steps=1)
    path = saved_style(server.run(graph | {"half": half}))
    assert acfun.style_file.load_style(path).facts.settings["precision"] == "float16"
    graph = styled_graph(models_dir, path.name)
    graph["adapters"]["inputs"]["model"] = ["half", 0]
    graph["sampler"]["inputs"]["steps"] = 1
    styled = server.images(server.run(graph | {"half": half}), "save")[0]
    assert styled.std() > 1
    assert np.abs(styled.astype(int) - plain).mean() > 1
    server.forget()
    assert np.array_equal(server.images(server.run(plain_graph | {"half": half}), "save")[0], plain)
