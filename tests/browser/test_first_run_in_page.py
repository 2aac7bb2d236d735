"""A first run as a user does it in ComfyUI's page, on the small prior.

What nodes show after a run covers no neighbour, in classic nodes and in Nodes 2.0.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from line_up import is_found, style_of
from PIL import Image
from small_prior_graphs import SAMPLING, SIDE, TRAINING
from test_workflows_in_page import overlap
from tiny_styles import sample_style

from acfun_ops.style.style_file import save_style
from evaluation.toy.draw_examples import FACE, OTHER, STYLE

PACK_NAME = "acfun"
TEMPLATE = "1 Train a style and apply it"
WAIT = 600.0  # Seconds; a run takes half a minute on an idle machine.
USE_PRIOR = """() => {
    const graph = app.graph, prior = LiteGraph.createNode('LoadSmallPrior');
    graph.add(prior);
    const swap = (type, shift) => {
        const old = graph._nodes.find((node) => node.type === type);
        if (!old) return;
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
ADD_LOADER = """async () => {
    await app.refreshComboInNodes();
    app.graph.add(LiteGraph.createNode('ACFunLoadStyle'));
}"""
OPEN_FILE = """async ([name, content]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    await app.handleFile(new File([bytes], name, { type: 'image/png' }));
}"""
ARE_DRAWN = """() => app.graph._nodes
    .filter(({ type }) => ['SaveImage', 'ACFunLoadStyle'].includes(type))
    .every(({ id, imgs }) => (imgs?.[0] ?? document.querySelector(`[data-node-id="${id}"] img`))
        ?.complete)"""
MODES = {"classic": False, "nodes 2.0": True}
TEMPLATES = (TEMPLATE, "2 Apply a saved style", "3 Both halves apart")
RUN = """async () => {
    const { api } = window.comfyAPI.api;
    const end = new Promise((resolve, reject) => {
        api.addEventListener('execution_success', resolve, { once: true });
        api.addEventListener('execution_error', ({ detail }) =>
            reject(new Error(detail.exception_message)), { once: true });
    });
    if (!await app.queuePrompt(0)) throw new Error("refused");
    await end;
}"""
VUE_BOXES = """() => [...document.querySelectorAll('[data-node-id]')]
    .filter((box) => !box.parentElement.closest('[data-node-id]'))
    .map((box) => {
        const { x, y, width, height } = box.getBoundingClientRect();
        return [app.graph.getNodeById(box.dataset.nodeId)?.title, x, y, width, height];
    })"""
OWNER = "(element) => element.closest('[data-node-id]').dataset.nodeId"
OWNER_AT = """([x, y]) =>
    document.elementFromPoint(x, y)?.closest('[data-node-id]')?.dataset.nodeId"""
EXAMPLES = Path(__file__).resolve().parents[2] / "web" / "examples"
MANY_STEPS, ENOUGH_STEPS = 5000, 100


@pytest.fixture(scope="module")
def page(prior_page, tmp_path_factory):
    """ComfyUI's page with the first template, on the prior, and two pictures that are uploaded."""
    prior_page.open_template(PACK_NAME, TEMPLATE)
    for title, example in (("Style picture", "style"), ("Face photo", "face")):
        picture = tmp_path_factory.mktemp(example) / f"my_{example}.jpg"
        shutil.copy(EXAMPLES / f"acfun_{example}.jpg", picture)
        prior_page.upload(title, picture)
    prior_page.page.evaluate(USE_PRIOR)
    set_widgets(prior_page, "ACFunTrainStyle", **TRAINING, preview_every=1, steps=MANY_STEPS)
    set_widgets(prior_page, "EmptyLatentImage", width=SIDE, height=SIDE)
    set_widgets(prior_page, "KSampler", **SAMPLING)
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
    raise TimeoutError(f"It did not happen in {WAIT:.0f} s. The page says: {opened.problems()}")


def press_run(opened):
    opened.page.get_by_test_id("queue-button").first.click()


def cancel(opened):
    opened.page.evaluate("() => app.extensionManager.command.execute('Comfy.Interrupt')")


def test_cancelled_training_shows_steps_and_previews_and_leaves_a_style(page):
    press_run(page)
    later = re.compile(rf"step (?!1 )\d+ of {MANY_STEPS}, loss")  # A fast one shows not each step.
    wait_until(page, lambda: later.search(shown(page, "ACFunTrainStyle")))
    wait_until(page, lambda: page.page.evaluate(HAS_PREVIEW, "ACFunTrainStyle"))
    cancel(page)
    wait_until(page, lambda: "training/" in shown(page, "ACFunTrainStyle"))
    listed = page.page.evaluate(STYLES)
    assert [name for name in listed if name.startswith("training/")]


@pytest.fixture(scope="module")
def drawn(page, prior_server):
    """The picture that the page shows after a finished run, and the file that it came from."""
    set_widgets(page, "ACFunTrainStyle", steps=ENOUGH_STEPS, preview_every=0)
    press_run(page)
    picture = shown_picture(page)
    (saved,) = prior_server.output_dir.glob("ACFun_*.png")
    return picture, saved


def shown_picture(opened):
    source = wait_until(opened, lambda: opened.page.evaluate(PICTURE, "SaveImage"))
    return np.asarray(Image.open(io.BytesIO(opened.page.request.get(source).body())))


def test_finished_run_of_uploaded_pictures_shows_its_picture(page, drawn):
    picture, saved = drawn
    loaders = [node for node in page.prompt().values() if node["class_type"] == "LoadImage"]
    assert {node["inputs"]["image"] for node in loaders} == {"my_style.jpg", "my_face.jpg"}
    assert picture.shape == (SIDE, SIDE, 3)
    assert np.array_equal(np.asarray(Image.open(saved)), picture)


def test_picture_shows_the_face_of_the_photo_and_no_other(drawn):
    assert is_found(drawn[0], FACE)
    assert not is_found(drawn[0], OTHER)


def test_picture_is_in_the_style_and_the_photo_is_not(drawn):
    photo = Image.open(EXAMPLES / "acfun_face.jpg").resize((SIDE, SIDE))
    assert style_of(drawn[0]) == STYLE
    assert style_of(np.asarray(photo)) != STYLE


def test_a_style_shows_its_facts_before_it_is_run(page, drawn):
    page.page.evaluate(ADD_LOADER)
    wait_until(page, lambda: f", {ENOUGH_STEPS} steps, " in shown(page, "ACFunLoadStyle"))
    page.page.evaluate(
        "() => app.graph.remove(app.graph._nodes.find(({ type }) => type === 'ACFunLoadStyle'))"
    )


def test_error_of_a_wrong_family_stands_on_the_node(page, prior_server):
    save_style(sample_style(family="sdxl"), prior_server.styles_dir / "sdxl.safetensors")
    set_widgets(page, "ACFunApplyStyle", strength=1.0)
    page.page.evaluate(
        """() => {
            const graph = app.graph, sdxl = LiteGraph.createNode('ACFunLoadStyle');
            graph.add(sdxl);
            sdxl.widgets[0].value = 'sdxl.safetensors';
            const adapters = graph._nodes.find((node) => node.type === 'ACFunApplyStyle');
            const slot = adapters.inputs.findIndex((input) => input.name === 'style');
            sdxl.connect(0, adapters, slot);
        }"""
    )
    press_run(page)
    text = wait_until(page, lambda: shown(page, "ACFunApplyStyle"))
    assert "The style was trained on" in text


def test_after_a_restart_the_saved_picture_opens_a_graph_that_does_not_train_again(
    page, drawn, prior_server
):
    picture, saved = drawn
    prior_server.restart()
    page.open()
    page.page.evaluate("() => app.graph.clear()")
    page.page.evaluate(OPEN_FILE, [saved.name, base64.b64encode(saved.read_bytes()).decode()])
    wait_until(page, lambda: page.graph()["nodes"])
    press_run(page)
    assert np.array_equal(shown_picture(page), picture)
    taken = shown(page, "ACFunTrainStyle")
    assert taken.startswith("Took ") and f"({ENOUGH_STEPS} steps), trained before" in taken
    wait_until(page, lambda: "unchanged" in shown(page, "ACFunSaveStyle"))
    assert len(list(prior_server.output_dir.glob("ACFun_*.png"))) == 2
    assert page.problems() == []


@pytest.fixture(scope="module", params=MODES)
def mode(request, prior_page):
    """The page in one of its two ways to draw nodes, and whether these are Nodes 2.0."""
    is_vue = MODES[request.param]
    prior_page.draw_vue_nodes(is_vue)
    if is_vue:  # As who has chosen it meets the page.
        prior_page.open()
    yield prior_page, is_vue
    prior_page.draw_vue_nodes(False)


def test_nodes_grown_by_a_run_cover_nothing(mode):
    opened, is_vue = mode
    covered = {}
    for template in TEMPLATES:  # The first trains the style that the others load.
        opened.open_template(PACK_NAME, template)
        opened.page.evaluate(USE_PRIOR)
        set_widgets(opened, "ACFunTrainStyle", **TRAINING | {"steps": 4, "preview_every": 2})
        set_widgets(opened, "EmptyLatentImage", width=SIDE, height=SIDE)
        set_widgets(opened, "KSampler", steps=2)
        heights = {title: height for title, _, _, _, height in boxes_of(opened, is_vue)}
        opened.page.evaluate(RUN)
        wait_until(opened, lambda: opened.page.evaluate(ARE_DRAWN))
        opened.settle()
        boxes = boxes_of(opened, is_vue)
        if template == TEMPLATE:  # Load ACFun Style shows its facts before a run.
            assert any(height > heights[title] + 20 for title, _, _, _, height in boxes)
        covered[template] = [(a[0], b[0]) for a, b in combinations(boxes, 2) if overlap(a, b)]
        if is_vue:
            covered[template] += covered_buttons(opened)
    assert covered == {template: [] for template in TEMPLATES}


def covered_buttons(opened):
    """Return the nodes whose button for advanced inputs a click does not reach."""
    buttons = opened.page.get_by_text("Show advanced inputs").all()
    assert buttons
    covered = []
    for button in buttons:
        box = button.bounding_box()
        middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
        owner = button.evaluate(OWNER)
        if opened.page.evaluate(OWNER_AT, middle) != owner:
            covered.append(owner)
    return covered


def boxes_of(opened, is_vue):
    """Return title, left, top, width and height of the nodes, without the prior's loader."""
    boxes = opened.page.evaluate(VUE_BOXES) if is_vue else opened.boxes()
    return [box for box in boxes if box[0] not in (None, "Load Small Prior")]
