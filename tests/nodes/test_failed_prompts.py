"""API prompts that failed on release 0.1.0, each run in one server to the outcome that is right.

The server computes with an fp8 text encoder, which one of the prompts is about.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from style_graphs import saved_style

from evaluation.comfyui_host import new_server

PROMPTS = Path(__file__).parent / "failed_prompts"
SHORT_ENCODERS = Path(__file__).resolve().parent / "support" / "short_encoders"
WIDTH = 768  # Of the prompt embeddings, whose keys and values a hypernetwork changes.


def prompt(name):
    return json.loads((PROMPTS / f"{name}.json").read_text(encoding="utf-8"))


def write_hypernetwork(path):
    generator = torch.Generator().manual_seed(1)
    layer = {
        "linear.0.weight": 0.3 * torch.randn(WIDTH, WIDTH, generator=generator) / WIDTH**0.5,
        "linear.0.bias": torch.zeros(WIDTH),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({WIDTH: [layer, layer], "activation_func": "linear"}, path)


@pytest.fixture(scope="module")
def place(acfun, models_dir):
    """A server with all that the prompts name."""
    for key in ("sd1", "clip_vision"):
        models_dir.path(key)
    server = new_server(models_dir.root, arguments=["--fp8_e4m3fn-text-enc"])
    server.add_pack(SHORT_ENCODERS)
    with server:
        for seed, name in enumerate(("style_image", "face_image", "ds/1", "ds/2", "ds/3")):
            pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            server.add_input(f"{name}.png", pixels.repeat(8, axis=0).repeat(8, axis=1))
        write_hypernetwork(server.base / "models" / "hypernetworks" / "hn.pt")
        for name in ("st", "portraits/m"):
            path = server.styles_dir / f"{name}.safetensors"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(acfun.bytes_of(acfun.style()))
        yield server


def picture(server, graph):
    return server.images(server.run(graph), "save")[0]


def area_mask(server, graph):
    """The mask is black in the whole area of the conditions, so the adapters do nothing."""
    masked = picture(server, graph)
    adapters = graph["adapters"]["inputs"]
    off, everywhere = ({"strength": 0.0}, {"mask": ["white", 0]})
    plain = picture(server, graph | {"adapters": graph["adapters"] | {"inputs": adapters | off}})
    full = picture(
        server, graph | {"adapters": graph["adapters"] | {"inputs": adapters | everywhere}}
    )
    assert np.array_equal(masked, plain)
    assert np.abs(full.astype(int) - plain).mean() > 1


def backslash(server, graph):
    assert picture(server, graph).std() > 1


def date_prefix(server, graph):
    before = time.strftime("%Y-%m-%d")
    path = saved_style(server.run(graph))
    days = {before, time.strftime("%Y-%m-%d")}  # Midnight may fall into the run.
    assert path in {server.styles_dir / day / "monet_00001_.safetensors" for day in days}
    assert path.exists()


def trains(server, graph):
    """It trains, once, and not by taking the finished style of another prompt."""
    history = server.run(graph)
    texts = history["outputs"]["train"]["text"]
    assert len(texts) == len(history["outputs"]["save_style"]["text"]) == 1
    assert "Trained 2 steps." in texts[0]
    assert saved_style(history).exists()
    return texts[0]


def list_of_pictures(server, graph):
    assert "style pictures: 3 and face photos: 1" in trains(server, graph)


OUTCOMES = {
    "area_mask": area_mask,
    "backslash": backslash,
    "date_prefix": date_prefix,
    "fp8_text_encoder": trains,
    "list_of_pictures": list_of_pictures,
    "train_hypernetwork": trains,
}


def test_every_prompt_has_its_outcome():
    assert sorted(OUTCOMES) == sorted(path.stem for path in PROMPTS.glob("*.json"))


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_failed_on_the_first_release_is_right(place, name):
    OUTCOMES[name](place, prompt(name))
