"""ComfyUI's page in a headless browser, as a user meets it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Request

LOAD_TIMEOUT = 300_000.0  # Milliseconds, as everywhere in Playwright; a loaded machine is slow.
SETTLE = 500.0
# Nothing is left to draw or to compute: the browser has time to spare, frame after frame.
IS_IDLE = """async (longest) => {
    for (let spare = 0, end = performance.now() + longest; spare < 5;) {
        if (performance.now() > end) throw new Error('The page never has time to spare.');
        await new Promise((resolve) => requestIdleCallback((deadline) => {
            spare = deadline.timeRemaining() > 5 ? spare + 1 : 0;
            requestAnimationFrame(resolve);
        }));
    }
}"""
# Its nodes are known, it hears the server, and the mask over a page that still loads is gone.
IS_LOADED = """(nodeType) => Boolean(
    window.app?.extensionManager && window.LiteGraph?.registered_node_types[nodeType]
    && app.api.clientId && app.api.socket?.readyState === WebSocket.OPEN
    && !document.querySelector('.p-blockui-mask')
)"""
# A number of its own: the page keeps the values of a cleared node for the next of its number.
PLACE_NODE = """(nodeType) => {
    app.graph.clear();
    window.placedNodes = (window.placedNodes ?? 1000) + 1;
    app.graph.state.lastNodeId = window.placedNodes;
    const node = LiteGraph.createNode(nodeType);
    node.pos = [500, 400];
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [0, 0];
    app.canvas.selectNode(node);
}"""
SWITCH_NODES = "(isVue) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', isVue)"
PRESS_UPLOAD = """(title) => app.graph._nodes.find((node) => node.title === title)
    .widgets.find((widget) => widget.type === 'button').callback()"""
HAS_FILE = """([title, name]) => app.graph._nodes.find((node) => node.title === title)
    .widgets[0].value === name"""
WIDGETS = """() => app.graph._nodes[0].widgets.map(({ name, value }) => [name, value])"""
BOXES = """() => app.graph._nodes.map((node) => [node.title, ...node.boundingRect])"""
EXTENT = """() => {
    const boxes = [...app.graph._nodes, ...app.graph._groups].map((item) => item.boundingRect);
    const edges = (n, end) => boxes.map((box) => box[n] + (end ? box[n + 2] : 0));
    return [Math.max(...edges(0, true)) - Math.min(...edges(0)),
            Math.max(...edges(1, true)) - Math.min(...edges(1))];
}"""
BAD_NODES = """() => app.graph._nodes.flatMap((node) => {
    const bad = node.has_errors ? [`${node.type} has errors`] : [];
    for (const widget of node.widgets ?? []) {
        const values = widget.type === 'combo' ? widget.options.values : null;
        if (Array.isArray(values) && !values.includes(widget.value))
            bad.push(`${node.type}.${widget.name} has '${widget.value}', not in its list`);
    }
    return bad;
})"""


class ComfyPage:
    """One tab with ComfyUI's page."""

    def __init__(self, page: Page, address: str, node_type: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self._url = f"http://{address}"
        self._node_type = node_type
        self._asked: set[Request] = set()
        self._last_asked = 0.0
        page.set_default_timeout(LOAD_TIMEOUT)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._asked.add(request))
        for end in ("requestfinished", "requestfailed"):
            page.on(end, self._note_end)

    def open(self) -> None:
        """Load the page; return when it knows the pack's nodes and shows its graph."""
        self._asked.clear()
        self.page.goto(self._url)
        self.page.wait_for_function(IS_LOADED, arg=self._node_type)
        self.page.wait_for_selector("#graph-canvas")
        self.settle()
        self.errors.clear()

    def settle(self) -> None:
        """Return when the page has asked its server nothing for half a second and is idle."""
        end = time.monotonic() + LOAD_TIMEOUT / 1000
        # Idle first: what was done just now asks the server in one of the next frames.
        self.page.evaluate(IS_IDLE, LOAD_TIMEOUT)
        while self._asked or time.monotonic() - self._last_asked < SETTLE / 1000:
            if time.monotonic() > end:
                raise TimeoutError(f"The page still asks for {[one.url for one in self._asked]}")
            self.page.wait_for_timeout(SETTLE / 10)
            self.page.evaluate(IS_IDLE, LOAD_TIMEOUT)

    def _note_end(self, request: Request) -> None:
        self._asked.discard(request)
        self._last_asked = time.monotonic()

    def draw_vue_nodes(self, is_vue: bool) -> None:
        """Switch to Nodes 2.0 or to classic nodes, as the page's menu does."""
        self.page.evaluate(SWITCH_NODES, is_vue)
        self.settle()

    def browse_templates(self, pack: str) -> Locator:
        """Open the template browser at a pack's templates; return the dialog."""
        self.page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_text(pack, exact=True).first.click()
        dialog.locator("[data-testid^=template-workflow-]").first.wait_for()
        return dialog

    def open_template(self, pack: str, name: str) -> None:
        """Choose a template of a pack; return when its graph is loaded."""
        dialog = self.browse_templates(pack)
        self.page.evaluate("() => app.graph.clear()")
        dialog.get_by_test_id(f"template-workflow-{name}").click()
        dialog.wait_for(state="detached")
        self.page.wait_for_function("() => app.graph._nodes.length > 0")
        self.settle()
        skip = self.page.get_by_role("button", name="Skip", exact=True)
        if skip.is_visible():  # The page's own tour, at the first app that it opens.
            skip.click()
            skip.wait_for(state="detached")

    def place(self, node_type: str) -> None:
        """Put one fresh node on an empty graph and select it."""
        self.page.evaluate(PLACE_NODE, node_type)
        self.settle()

    def upload(self, title: str, picture: Path) -> None:
        """Choose a picture by the upload button of a Load Image node; return when it is named."""
        with self.page.expect_file_chooser() as chooser:
            self.page.evaluate(PRESS_UPLOAD, title)
        chooser.value.set_files(picture)
        self.page.wait_for_function(HAS_FILE, arg=[title, picture.name])

    def open_help(self) -> Locator:
        """Open the help page of the selected node; return it."""
        self.page.get_by_test_id("info-button").dispatch_event("click")
        panel = self.page.locator(".node-help-content")
        panel.locator("h1").wait_for()
        return panel

    def widgets(self) -> dict[str, Any]:
        """Return the widget values of the first node by name."""
        return dict(self.page.evaluate(WIDGETS))

    def graph(self) -> dict[str, Any]:
        """Return the graph as the page saves it."""
        return self.page.evaluate("() => app.graph.serialize()")

    def prompt(self) -> dict[str, Mapping[str, Any]]:
        """Return the prompt that the page would send."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def boxes(self) -> list[tuple[str, float, float, float, float]]:
        """Return title, left, top, width and height of all nodes as the page draws them."""
        return [tuple(box) for box in self.page.evaluate(BOXES)]

    def extent(self) -> tuple[float, float]:
        """Return width and height of all that stands on the graph, in the page's units."""
        return tuple(self.page.evaluate(EXTENT))

    def problems(self) -> list[str]:
        """Return all that the page complains of: dialogs, missing nodes or files, script errors."""
        shown = [
            text
            for selector in ("[role=dialog]", "[data-testid=error-overlay]")
            for text in self.page.locator(selector).all_inner_texts()
        ]
        return [*shown, *self.page.evaluate(BAD_NODES), *self.errors]

    def screenshot(self, path: Path) -> None:
        """Save what is visible as a PNG."""
        self.page.screenshot(path=path)

    def search(self, words: str, awaited: Iterable[str]) -> list[str]:
        """Type words into the node search; return the labels on offer, with the awaited."""
        self.page.evaluate("() => app.graph.clear()")
        box = self.page.get_by_placeholder("Add a node...")
        while not box.is_visible():  # A busy page may take a double click for two.
            self.page.mouse.dblclick(900, 500)
            self.settle()
        box.fill(words)
        self.page.wait_for_timeout(SETTLE)
        offered = self.page.get_by_test_id("result-item")
        for label in awaited:
            offered.filter(has_text=label).first.wait_for()
        texts = offered.all_inner_texts()
        self.page.mouse.click(300, 1000)  # Outside of it, which closes it.
        box.wait_for(state="hidden")
        return [text.partition("\n")[0] for text in texts]
