"""Blend, Apply ACFun Style and ACFun Style Sheet in the newest and the oldest ComfyUI."""

from __future__ import annotations

import numpy as np
import pytest
from comfy_graphs import node, text_to_image

TEXT = "a woman in S* style"
COLUMNS = 5


@pytest.fixture
def graph(acfun, either_server, models_dir):
    """Return a graph that blends two saved styles, draws with the blend, and draws its sheet."""
    for seed, name in enumerate(("one", "two")):
        style = acfun.style(seed=seed) if seed else acfun.style()
        acfun.style_file.save_style(style, either_server.styles_dir / f"{name}.safetensors")
    graph = text_to_image(models_dir.name("sd1"), prompt="a woman in style")
    models = {name: ["checkpoint", n] for n, name in enumerate(("model", "clip", "vae"))}
    sheet = {"sampler_name": "euler", "scheduler": "normal", "negative": "", "cfg": 7.0}
    sheet |= {"seed": 0, "seeds": 1, "steps": 2, "width": 64, "height": 64, "text": TEXT}
    applied = {"text": TEXT, "strength": 1.0, "balance": 0.5}
    styled = graph["sampler"]["inputs"] | {"model": ["apply", 0], "positive": ["apply", 1]}
    return graph | {
        "one": node("ACFunLoadStyle", style_file="one.safetensors"),
        "two": node("ACFunLoadStyle", style_file="two.safetensors"),
        "blend": node(
            "ACFunBlendStyles", style_a=["one", 0], style_b=["two", 0], ratio=0.5, mode="blend"
        ),
        "apply": node(
            "ACFunApplyStyle",
            model=["checkpoint", 0],
            clip=["checkpoint", 1],
            style=["blend", 0],
            **applied,
        ),
        "styled": node("KSampler", **styled),
        "decode_styled": node("VAEDecode", samples=["styled", 0], vae=["checkpoint", 2]),
        "save_styled": node("SaveImage", images=["decode_styled", 0], filename_prefix="styled"),
        "sheet": node("ACFunStyleSheet", style=["blend", 0], **models, **sheet),
        "cells": node("PreviewImage", images=["sheet", 1]),
    }


def test_the_blend_draws_and_its_sheet_shows_each_part(either_server, graph):
    history = either_server.run(graph)
    (plain,), (styled,) = (either_server.images(history, name) for name in ("save", "save_styled"))
    assert not np.array_equal(plain, styled)
    cells = either_server.images(history, "cells")
    assert len(cells) == COLUMNS
    assert len({cell.tobytes() for cell in cells}) == COLUMNS
    assert np.array_equal(cells[0], plain)
    assert np.array_equal(cells[-1], styled)
    (sheet,) = either_server.images(history, "sheet")
    assert sheet.shape[1] > COLUMNS * 64
