"""Prompts of every transformer in a real server: train, save, load, apply and draw."""

from __future__ import annotations

import numpy as np
import pytest
from comfy_graphs import node, text_to_image
from small_prior_graphs import put_examples, with_small_models
from style_graphs import saved_style, styled_graph, training_graph
from tiny_transformers import FAMILIES
from workflow_prompts import TRANSFORMERS, changed, load_workflow, node_id, to_prompt

TEXT = "a woman in S* style"
SHEET = {"text": TEXT, "negative": "", "seed": 0, "seeds": 1, "steps": 2, "cfg": 7.0}
SHEET |= {"sampler_name": "euler", "scheduler": "normal", "width": 64, "height": 64}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_style_is_trained_saved_loaded_and_applied(server, models_dir, family):
    check_family(server, models_dir, family)


@pytest.mark.parametrize("family", ["lumina2", "flux", "chroma", "sd3", "qwen_image"])
def test_so_it_is_in_the_oldest_comfyui(old_server, models_dir, family):
    check_family(old_server, models_dir, family)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_template_trains_and_draws(server, name):
    put_examples(server)
    loader = node("LoadTinyTransformer", family=TRANSFORMERS[name]) | {"_meta": {"title": ""}}
    prompt = with_small_models(to_prompt(load_workflow(name), server.object_info()), loader)
    prompt = changed(prompt, "ACFunTrainStyle", steps=2, preview_every=0, alignment="staged")
    prompt = changed(prompt, "KSampler", steps=2)
    drawn = [
        server.images(server.run(changed(prompt, "ACFunApplyStyle", strength=s)), saver)[0]
        for s in (1.0, 0.0)
        for saver in [node_id(prompt, "Styled image")]
    ]
    assert drawn[0].std() > 1
    assert not np.array_equal(*drawn)


def check_family(server, models_dir, family):
    loader = {"checkpoint": node("LoadTinyTransformer", family=family)}
    graph = training_graph(server, models_dir, alignment="staged") | loader
    graph["train"]["inputs"]["clip_vision"] = ["checkpoint", 3]
    history = server.run(graph)
    assert any("experimental" in text for text in server.messages(history).texts("train"))
    style = saved_style(history)
    models = {"model": ["checkpoint", 0], "clip": ["checkpoint", 1], "style": ["style", 0]}
    applied = node("ACFunApplyStyle", **models, text=TEXT, strength=1.0, balance=0.5)
    halves = styled_graph(models_dir, style.name) | loader
    whole = halves | {"apply": applied, "sampler": node("KSampler", **halves["sampler"]["inputs"])}
    whole["sampler"]["inputs"] |= {"model": ["apply", 0], "positive": ["apply", 1]}
    sheet = node("ACFunStyleSheet", **models, vae=["checkpoint", 2], **SHEET)
    whole |= {"sheet": sheet, "cells": node("PreviewImage", images=["sheet", 1])}
    plain = text_to_image("", prompt=TEXT.replace("S*", " ")) | loader
    histories = [server.run(graph) for graph in (plain, halves, whole, plain)]
    images = [server.images(history, "save")[0] for history in histories]
    assert np.array_equal(images[1], images[2])
    assert not np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], images[3])
    cells = server.images(histories[2], "cells")
    assert len({cell.tobytes() for cell in cells}) == len(cells) == 5
    assert np.array_equal(cells[0], images[0])
    assert np.array_equal(cells[-1], images[1])
