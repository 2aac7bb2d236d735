"""A first run as a user does it in ComfyUI's page, on the small prior."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image
from small_prior_graphs import SIDE

PACK_NAME = "acfun"
TEMPLATE = "1 Train a style and apply it"
WAIT = 240.0  # Seconds; a run takes half a minute on an idle machine.
USE_PRIOR = """() => {
    const graph = app.graph, prior = LiteGraph.createNode('LoadSmallPrior');
    graph.add(prior);
    const swap = (type, shift) => {
        const old = graph._nodes.find((node) => node.type === type);
        old.outputs.forEach((output, slot) => [...(output.links ?? [])].forEach((id) => {
            const { target_id, target_slot } = graph.links[id];
            prior.connect(slot + shift, graph.getNodeById(target_id), target_slot);
        }));
        prior.pos = [old.pos[0], old.pos[1]];
        graph.remove(old);
    };
    swap('CLIPVisionLoader', 3);
    swap('CheckpointLoaderSimple', 0);
}"""
SET = """([type, values]) => {
    for (const node of app.graph._nodes.filter((node) => node.type === type))
        for (const widget of node.widgets ?? [])
            if (widget.name in values) widget.value = values[widget.name];
}"""
SHOWN = """(type) => {
    const node = app.graph._nodes.find((node) => node.type === type);
    const texts = (node.widgets ?? []).filter(({ name }) => name.includes('text-preview'));
    return texts.map(({ value }) => value).join('\\n');
}"""
HAS_PREVIEW = """(type) => {
    const node = app.graph._nodes.find((node) => node.type === type);
    return Boolean(node.imgs?.length || app.nodePreviewImages?.[node.id]?.length);
}"""
PICTURE = """(type) => app.graph._nodes.find((node) => node.type === type).imgs?.[0]?.src ?? ''"""
STYLES = """async () => {
    await app.refreshComboInNodes();
    const node = LiteGraph.createNode('ACFunLoadStyle');
    return node.widgets[0].options.values;
}"""
MANY_STEPS, FEW_STEPS = 5000, 4


@pytest.fixture(scope="module")
def page(prior_page):
    """ComfyUI's page with the first template, on the prior."""
    prior_page.open_template(PACK_NAME, TEMPLATE)
    prior_page.page.evaluate(USE_PRIOR)
    training = {"resolution": SIDE, "learning_rate": 0.003, "preview_every": 1}
    set_widgets(prior_page, "ACFunTrainStyle", **training, steps=MANY_STEPS)
    set_widgets(prior_page, "EmptyLatentImage", width=SIDE, height=SIDE)
    set_widgets(prior_page, "KSampler", steps=4, cfg=2)
    return prior_page


def set_widgets(opened, node_type, **values):
    opened.page.evaluate(SET, [node_type, values])


def shown(opened, node_type):
    return opened.page.evaluate(SHOWN, node_type)


def wait_until(opened, question):
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        answer = question()
        if answer:
            return answer
        opened.page.wait_for_timeout(300)
    raise TimeoutError(f"It did not happen in {WAIT:.0f} s.")


def press_run(opened):
    opened.page.get_by_test_id("queue-button").first.click()


def cancel(opened):
    opened.page.evaluate("() => app.extensionManager.command.execute('Comfy.Interrupt')")


def test_cancelled_training_shows_steps_and_previews_and_leaves_a_style(page):
    press_run(page)
    wait_until(page, lambda: "step 2" in shown(page, "ACFunTrainStyle"))
    assert f"of {MANY_STEPS}, loss" in shown(page, "ACFunTrainStyle")
    wait_until(page, lambda: page.page.evaluate(HAS_PREVIEW, "ACFunTrainStyle"))
    cancel(page)
    wait_until(page, lambda: "training/" in shown(page, "ACFunTrainStyle"))
    listed = page.page.evaluate(STYLES)
    assert [name for name in listed if name.startswith("training/")]


def test_finished_run_shows_the_picture(page, prior_server):
    set_widgets(page, "ACFunTrainStyle", steps=FEW_STEPS)
    press_run(page)
    source = wait_until(page, lambda: page.page.evaluate(PICTURE, "SaveImage"))
    picture = np.asarray(Image.open(io.BytesIO(page.page.request.get(source).body())))
    (saved,) = prior_server.output_dir.glob("ACFun_*.png")
    assert picture.shape[:2] == (SIDE, SIDE)
    assert np.array_equal(np.asarray(Image.open(saved)), picture)
    assert picture.std() > 10


def test_error_of_a_wrong_family_stands_on_the_node(page):
    set_widgets(page, "ACFunApplyAdapters", strength=1.0)
    page.page.evaluate(
        """() => {
            const graph = app.graph, prior = LiteGraph.createNode('LoadSmallPrior');
            graph.add(prior);
            prior.widgets[0].value = 'lessons';
            const adapters = graph._nodes.find((node) => node.type === 'ACFunApplyAdapters');
            prior.connect(0, adapters, 0);
        }"""
    )
    press_run(page)
    text = wait_until(page, lambda: shown(page, "ACFunApplyAdapters"))
    assert "The style was trained on" in text
