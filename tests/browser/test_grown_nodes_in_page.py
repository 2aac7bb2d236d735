"""What nodes show after a run covers no neighbour, in classic nodes and in Nodes 2.0."""

from __future__ import annotations

from itertools import combinations

import pytest
from comfy_page import ComfyPage
from page_setup import PAGE
from small_prior_graphs import SAMPLING, SIDE, TRAINING
from test_first_run_in_page import PACK_NAME, USE_PRIOR, set_widgets
from test_workflows_in_page import overlap

MODES = {"classic": False, "nodes 2.0": True}
TEMPLATES = ("1 Train a style and apply it", "2 Apply a saved style", "3 Both halves apart")
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


@pytest.fixture(scope="module", params=MODES)
def mode(request, prior_server, chromium):
    """Return the page in one of its two ways to draw nodes, and whether these are Nodes 2.0."""
    is_vue = MODES[request.param]
    usual = {"Comfy.VueNodes.Enabled": False, "Comfy.Minimap.Visible": True}
    prior_server.request(
        "/settings", {"Comfy.VueNodes.Enabled": is_vue, "Comfy.Minimap.Visible": False}
    )
    page = chromium.new_page(**PAGE)
    opened = ComfyPage(page, prior_server.address, "ACFunTrainStyle")
    opened.open()
    yield opened, is_vue
    page.close()
    prior_server.request("/settings", usual)


def test_nodes_grown_by_a_run_cover_nothing(mode):
    opened, is_vue = mode
    covered = {}
    for template in TEMPLATES:  # The first trains the style that the others load.
        opened.open_template(PACK_NAME, template)
        opened.page.evaluate(USE_PRIOR)
        set_widgets(opened, "ACFunTrainStyle", **TRAINING | {"steps": 4, "preview_every": 2})
        set_widgets(opened, "EmptyLatentImage", width=SIDE, height=SIDE)
        set_widgets(opened, "KSampler", **SAMPLING)
        heights = {title: height for title, _, _, _, height in boxes_of(opened, is_vue)}
        opened.page.evaluate(RUN)
        opened.page.wait_for_timeout(3000)
        boxes = boxes_of(opened, is_vue)
        if template == TEMPLATES[0]:  # Load ACFun Style shows its facts before a run.
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
