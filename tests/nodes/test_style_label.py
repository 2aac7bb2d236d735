"""What Load ACFun Style shows of a style before it is run: the route that the page asks."""

from __future__ import annotations

import asyncio
import json
import urllib.error
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from comfy_graphs import node

ROUTE = "/acfun/style?name="


def answer(server, name):
    """Return status and answer of the route."""
    try:
        return 200, server.get_json(ROUTE + quote(name, safe=""))
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_label_equals_what_the_run_shows(acfun, either_server):
    path = either_server.styles_dir / "labelled.safetensors"
    thumbnail = a_thumbnail()
    card = replace(acfun.style().card, author="A. N.", license="CC0", thumbnail=thumbnail)
    acfun.style_file.save_style(replace(acfun.style(), card=card), path)
    status, label = answer(either_server, path.name)
    assert status == 200
    history = either_server.run(
        {
            "style": node("ACFunLoadStyle", style_file=path.name),
            "show": node("PreviewAny", source=["style", 0]),
        }
    )
    shown = history["outputs"]["style"]
    assert label["text"] == shown["text"]
    assert "sd1, 3 steps, " in label["text"][0] and " MB, by A. N., CC0, " in label["text"][0]
    pictures = [
        either_server.images({"outputs": {"style": each}}, "style")[0] for each in (label, shown)
    ]
    assert pictures[0].tolist() == pictures[1].tolist()
    assert pictures[0].shape == (64, 64, 3) and pictures[0].std() > 1
    assert answer(either_server, path.name)[1]["images"] == label["images"]  # Written once.


def test_a_style_without_a_picture_shows_its_facts_alone(acfun, either_server):
    acfun.style_file.save_style(acfun.style(), either_server.styles_dir / "bare.safetensors")
    status, label = answer(either_server, "bare.safetensors")
    assert status == 200
    assert "images" not in label and label["text"][0].endswith(f": {acfun.style().facts.prompt}")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.safetensors", "There is no style"),
        ("", "There is no style"),
        ("../../secret.safetensors", "leads out of the folder"),
        ("/etc/passwd", "leads out of the folder"),
        ("other.txt", "is no usable ACFun style"),
        ("foreign.safetensors", "is no usable ACFun style"),
    ],
)
def test_nothing_but_styles_of_the_folder_is_answered(either_server, name, sentence):
    (either_server.base / "models" / "secret.safetensors").write_bytes(b"secret")
    (either_server.styles_dir / "other.txt").write_bytes(b"secret")
    (either_server.styles_dir / "foreign.safetensors").write_bytes(b"secret")
    status, said = answer(either_server, name)
    assert (status, sorted(said)) == (404, ["acfun", "text"])
    assert sentence in said["text"][0]


def test_a_style_that_is_gone_since_the_listing_is_answered_with_a_sentence(acfun, monkeypatch):
    from acfun_pack.nodes import load_style

    def remove(name):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(load_style, "_read_ui_label", remove)
    reply = asyncio.run(load_style._answer(SimpleNamespace(query={"name": "gone.safetensors"})))
    assert reply.status == 404
    assert "gone.safetensors could not be read: No such file or directory" in reply.text


def test_a_blend_says_so(acfun, tmp_path):
    from acfun_pack.acfun_ops.style.blend import blend_styles, cross_styles
    from acfun_pack.nodes.load_style import label_text

    first, second = acfun.style(), acfun.style(seed=1)
    path = tmp_path / "style.safetensors"

    def told(style):
        acfun.style_file.save_style(style, path)
        return label_text(path, *acfun.style_file.read_label(path))

    assert told(first).startswith("sd1, 3 steps, ")
    mixed = blend_styles(first, second, 0.25)
    assert told(mixed).startswith("sd1 (a blend of 2 styles at 0.75 : 0.25), 3 steps, ")
    three = blend_styles(mixed, first, 0.5)
    assert "(a blend of 3 styles at 0.38 : 0.12 : 0.50)" in told(three)
    both = "sd1 (the abstract part of one style, the concrete part of another), 3 steps, "
    assert told(cross_styles(first, second)).startswith(both)


def a_thumbnail():
    from acfun_pack.nodes.library.preview_image import thumbnail_of
    from pack_nodes import picture

    return thumbnail_of(picture(5))
