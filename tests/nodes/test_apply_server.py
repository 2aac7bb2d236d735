"""Applied styles in a server: the branches of one prompt share a U-Net and do not leak."""

from __future__ import annotations

import numpy as np
import pytest
from comfy_graphs import node, text_to_image
from style_graphs import styled_graph, training_graph, with_branch


@pytest.fixture(scope="module")
def style_name(acfun, server):
    """Return the name of a style in the server's models/acfun."""
    (server.styles_dir / "trained.safetensors").write_bytes(acfun.bytes_of(acfun.style()))
    return "trained.safetensors"


@pytest.fixture
def plain_graph(models_dir):
    return text_to_image(models_dir.name("sd1"))


def image_of(server, history, node_id="save"):
    (image,) = server.images(history, node_id)
    return image


def with_controlnet(graph, server, models_dir):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    graph["hint"] = node("LoadImage", image=server.add_input("hint.png", picture))
    graph["controlnet"] = node("ControlNetLoader", control_net_name=models_dir.name("controlnet"))
    graph["control"] = node(
        "ControlNetApplyAdvanced",
        positive=["positive", 0],
        negative=["negative", 0],
        control_net=["controlnet", 0],
        image=["hint", 0],
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    graph["sampler"]["inputs"] |= {"positive": ["control", 0], "negative": ["control", 1]}
    return graph


@pytest.mark.parametrize("order", ["plain first", "styled first"])
def test_branches_of_one_prompt_do_not_leak(server, models_dir, style_name, plain_graph, order):
    graphs = plain_graph, styled_graph(models_dir, style_name)
    alone = [image_of(server, server.run(graph)) for graph in graphs]
    assert not np.array_equal(*alone)
    server.forget()
    first, second = graphs if order == "plain first" else reversed(graphs)
    graph = with_branch(second, "first", first)
    # The second latent needs the first picture, or else ComfyUI may sample in any order.
    graph["size"] = node("GetImageSize", image=["first_decode", 0])
    graph["latent"]["inputs"] |= {"width": ["size", 0], "height": ["size", 1]}
    history = server.run(graph)
    executed = server.executed_nodes(history)
    assert executed.index("first_sampler") < executed.index("sampler")
    pictures = [image_of(server, history, save) for save in ("first_save", "save")]
    expected = alone if order == "plain first" else alone[::-1]
    assert np.array_equal(pictures, expected)


def test_a_bypassed_node_leaves_nothing_behind(server, models_dir, style_name, plain_graph):
    plain = image_of(server, server.run(plain_graph))
    graph = styled_graph(models_dir, style_name)
    styled = image_of(server, server.run(graph))
    # The page bypasses a node by sending the prompt without it.
    graph["sampler"]["inputs"]["model"] = ["checkpoint", 0]
    graph["positive"] = plain_graph["positive"]
    del graph["adapters"], graph["style"]
    graph["sampler"]["inputs"]["seed"] = 1
    server.run(graph)
    server.run(plain_graph | {"sampler": graph["sampler"]})
    graph["sampler"]["inputs"]["seed"] = 0
    assert np.array_equal(image_of(server, server.run(graph)), plain)
    assert not np.array_equal(styled, plain)


def test_training_and_applying_in_one_prompt_leave_the_plain_branch_as_it_was(
    server, models_dir, plain_graph
):
    plain = image_of(server, server.run(plain_graph))
    server.forget()
    graph = training_graph(server, models_dir)
    del graph["save_style"]
    styled = styled_graph(models_dir, "unused")
    del styled["style"]
    styled["positive"]["inputs"]["style"] = styled["adapters"]["inputs"]["style"] = ["train", 0]
    history = server.run(with_branch(graph | styled, "plain", plain_graph))
    assert np.array_equal(image_of(server, history, "plain_save"), plain)
    assert not np.array_equal(image_of(server, history), plain)
    server.forget()
    assert np.array_equal(image_of(server, server.run(plain_graph)), plain)


def test_works_with_a_controlnet(server, models_dir, style_name, plain_graph):
    plain = image_of(server, server.run(plain_graph))
    styled = styled_graph(models_dir, style_name)
    styled_only = image_of(server, server.run(styled))
    controlled = with_controlnet(plain_graph, server, models_dir)
    controlled_alone = image_of(server, server.run(controlled))
    server.forget()
    both = with_controlnet(styled, server, models_dir)
    history = server.run(with_branch(both, "plain", controlled))
    assert np.array_equal(image_of(server, history, "plain_save"), controlled_alone)
    pictures = [plain, styled_only, controlled_alone, image_of(server, history)]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_masked_and_timed_adapters_run(server, models_dir, style_name):
    graph = styled_graph(models_dir, style_name, end_percent=0.5)
    graph["mask"] = node("SolidMask", value=0.5, width=33, height=17)
    graph["adapters"]["inputs"]["mask"] = ["mask", 0]
    everywhere = image_of(server, server.run(styled_graph(models_dir, style_name)))
    assert not np.array_equal(image_of(server, server.run(graph)), everywhere)
