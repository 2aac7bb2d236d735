"""Which widgets a node shows and what a preset does to them, in classic nodes and in Nodes 2.0."""

from __future__ import annotations

import pytest

from acfun_ops.training.config import PRESETS

MODES = {"classic": False, "nodes 2.0": True}
SHOWN = {
    "ACFunTrainStyle": ["prompt", "preset", "style_weight", "steps"],
    "ACFunApplyStyle": ["text", "strength", "balance"],
    "ACFunApplyAdapters": [
        "strength",
        "encoder_strength",
        "decoder_strength",
        "start_percent",
        "end_percent",
    ],
}
ADVANCED = {
    "ACFunTrainStyle": {"learning_rate", "seed", "rank", "alignment", "retrain"},
    "ACFunApplyStyle": {"applies_to", "ease", "block_strengths"},
    "ACFunApplyAdapters": {"middle_strength", "applies_to", "ease", "block_strengths"},
}
CUSTOM = "custom: the numbers on this node"
IN_SIGHT = """() => {
    const [node] = app.graph._nodes;
    const names = node.widgets.map(({ name }) => name);
    if (!LiteGraph.vueNodesMode)
        return node.widgets.filter((widget) => node.isWidgetVisible(widget)).map(({ name }) => name)
            .filter((name) => name !== 'advanced');
    const box = document.querySelector(`[data-node-id="${node.id}"]`);
    const shown = [...box.querySelectorAll('[data-testid=node-widget]')].map((widget) =>
        widget.querySelector('[data-testid=widget-layout-field-label]')?.textContent
        ?? names.find((name) => ['prompt', 'text'].includes(name)));
    return names.filter((name) => shown.includes(name));
}"""
# As a classic node's pointer does it.
EDIT = """([name, value]) => {
    const [node] = app.graph._nodes;
    const widget = node.widgets.find((widget) => widget.name === name);
    widget.setValue(value, { e: new MouseEvent('click'), node, canvas: app.canvas });
}"""
PRESS = """() => app.graph._nodes[0].widgets.find(({ name }) => name === 'advanced').callback()"""
HEIGHT = "() => app.graph._nodes[0].size[1]"
RELOAD = """() => {
    const graph = app.graph.serialize();
    app.graph.clear();
    app.graph.configure(graph);
}"""
LINK = """(name) => {
    const [node] = app.graph._nodes;
    const source = LiteGraph.createNode('PrimitiveInt');
    app.graph.add(source);
    source.connect(0, node, node.inputs.findIndex(({ widget }) => widget?.name === name));
}"""


class NodePage:
    """The page in one of its two ways to draw nodes."""

    def __init__(self, page, is_vue):
        self.page, self.is_vue = page, is_vue

    def place(self, node_id):
        self.page.place(node_id)
        self.box = self.page.page.locator("[data-node-id]").first

    def in_sight(self):
        return self.page.page.evaluate(IN_SIGHT)

    def press_advanced(self):
        if self.is_vue:
            self.box.get_by_text("Show advanced inputs").click()
        else:
            self.page.page.evaluate(PRESS)
        self.page.settle()

    def choose(self, name, value):
        if self.is_vue:
            self.box.get_by_text(self.page.widgets()[name], exact=True).click()
            self.page.page.get_by_role("option", name=value).click()
        else:
            self.page.page.evaluate(EDIT, [name, value])
        self.page.settle()

    def type(self, name, value):
        if self.is_vue:
            field = self.box.get_by_label(name).locator("input")
            field.fill(str(value))
            field.press("Enter")
        else:
            self.page.page.evaluate(EDIT, [name, value])
        self.page.settle()

    def numbers(self):
        widgets = self.page.widgets()
        return {name: widgets[name] for name in ("preset", "steps", "learning_rate")}

    def sent(self):
        (node,) = self.page.prompt().values()
        return node["inputs"]


@pytest.fixture(scope="module", params=MODES)
def nodes(request, comfy_page):
    comfy_page.draw_vue_nodes(MODES[request.param])
    yield NodePage(comfy_page, MODES[request.param])
    comfy_page.draw_vue_nodes(False)


@pytest.mark.parametrize("node_id", SHOWN)
def test_a_fresh_node_shows_what_most_need_and_the_rest_when_asked(nodes, node_id):
    nodes.place(node_id)
    assert nodes.in_sight() == SHOWN[node_id]
    before, sent = nodes.page.page.evaluate(HEIGHT), nodes.sent()
    nodes.press_advanced()
    assert set(nodes.in_sight()) >= ADVANCED[node_id] | set(SHOWN[node_id])
    assert nodes.sent() == sent
    assert "advanced" not in sent and sent.keys() >= ADVANCED[node_id]
    if not nodes.is_vue:
        assert nodes.page.page.evaluate(HEIGHT) > before + 50
        nodes.press_advanced()
        assert nodes.in_sight() == SHOWN[node_id]
        assert nodes.page.page.evaluate(HEIGHT) == before  # What is hidden takes no room.
    assert nodes.page.problems() == []


def test_an_advanced_value_that_is_not_the_default_stays_in_sight(nodes):
    if nodes.is_vue:
        pytest.skip("Nodes 2.0 has its own way to hide advanced widgets")
    nodes.place("ACFunTrainStyle")
    nodes.type("rank", 64)
    nodes.page.page.evaluate(RELOAD)
    assert nodes.in_sight() == [*SHOWN["ACFunTrainStyle"], "rank"]
    assert nodes.page.widgets()["rank"] == 64
    nodes.page.page.evaluate(LINK, "seed")
    assert "seed" in nodes.in_sight()


def test_a_preset_shows_its_numbers_and_editing_one_turns_it_to_custom(nodes):
    nodes.place("ACFunTrainStyle")
    assert nodes.numbers() == {"preset": "balanced", **PRESETS["balanced"]}
    nodes.choose("preset", "quick look")
    quick = {"preset": "quick look", **PRESETS["quick look"]}
    assert nodes.numbers() == quick
    assert quick.items() <= nodes.sent().items()
    nodes.type("style_weight", 0.9)  # Is in no preset.
    assert nodes.numbers() == quick
    nodes.type("steps", 81)
    edited = {**quick, "preset": CUSTOM, "steps": 81}
    assert nodes.numbers() == edited
    assert edited.items() <= nodes.sent().items()
    assert nodes.page.problems() == []


def test_a_preset_leaves_a_linked_number_alone(nodes):
    nodes.place("ACFunTrainStyle")
    nodes.page.page.evaluate(LINK, "steps")
    nodes.choose("preset", "quick look")
    assert nodes.numbers() == {"preset": "quick look", "steps": 150, "learning_rate": 1e-3}
