"""The text on a node: its warnings, and below them the current status."""

import functools
import html
import logging
from collections.abc import Callable
from typing import Any

from comfy_api.latest import ui
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.messages import Message, join_messages, to_json

log = logging.getLogger("ACFun")

# What to connect where a socket brings nothing.
_REMEDIES = {
    "model": "a checkpoint's MODEL",
    "clip": "a checkpoint's CLIP; this one may be a U-Net alone",
    "vae": "a checkpoint's VAE or a VAE Loader; this checkpoint may have none",
    "clip_vision": "Load CLIP Vision with a ViT model such as CLIP ViT-L/14",
    "style_image": "an IMAGE output",
    "face_image": "an IMAGE output",
}

_nodes_with_text: set[str] = set()


class NodeStatus:
    """Warnings and status of a node, shown on it while it runs and while others sample for it.

    ComfyUI runs a node once and takes it from its cache in later runs of the graph. Each run of the
    graph repeats what its samplings find, once; the warnings of an earlier run are cleared.

    Args:
        node_id: the node.
        own: the node's own warning, which stays.
    """

    def __init__(self, node_id: str, own: str = "") -> None:
        self.node_id = node_id
        self.shown = Message("")
        self._own = own
        self._warnings: list[str] = []
        self._run = _run_id()

    @property
    def text(self) -> Message:
        """All warnings, one a line."""
        return join_messages("\n", [self._own, *self._warnings])

    def begin(self, *_: Any) -> None:
        """Clear the warnings of an earlier run of the graph."""
        run = _run_id()
        if run is not None and run == self._run:
            return  # Another sampling of this run may have added them.
        self._run = run
        if self._warnings:
            self._warnings.clear()
            self.show()

    def add_warning(self, text: str) -> None:
        """Log a sentence and show it below the others, once a run."""
        if text not in self._warnings:
            self._warnings.append(text)
            log.info(text)
            self.show()

    def show(self, status: str = "") -> None:
        """Show all warnings, and below them the current status."""
        self.shown = join_messages("\n", [self.text, status])
        set_status(self.node_id, self.shown or " ")


def check_connected(**sockets: Any) -> None:
    """Check that sockets are connected, by their names.

    Raises:
        ACFunError: one is empty; the message names the first and what to connect.
    """
    for socket, value in sockets.items():
        # A checkpoint without a VAE gives an empty one.
        if value is None or getattr(value, "first_stage_model", value) is None:
            raise ACFunError(
                "The socket {socket} brings nothing. Connect {remedy}.",
                socket=socket,
                remedy=_REMEDIES[socket],
            )


def show_text(node_id: str, text: str) -> dict[str, Any] | None:
    """Log a text and show it on a node; return the node's ``ui`` output, None for no text."""
    if not text:
        return None
    log.info(text)
    set_status(node_id, text)
    return ui_text(text)


def ui_text(text: str) -> dict[str, Any]:
    """Return a ``ui`` output that shows a text on its node, also when the run is from the cache."""
    return ui.PreviewText(text).as_dict() | {"acfun": (to_json(text),)}  # Read by web/acfun.js.


def set_status(node_id: str, text: str) -> None:
    """Show a text on a node in the browser; it replaces the previous one."""
    if PromptServer.instance.client_id is not None:
        _nodes_with_text.add(node_id)
        # Some versions of the page take this for HTML, and a style's prompt may come from anyone.
        shown = html.escape(text, quote=False)
        message = {"node": node_id, "text": shown, "message": to_json(text)}
        server = PromptServer.instance
        server.send_sync("acfun.message", message, server.client_id)  # For web/acfun.js.
        server.send_progress_text(shown, node_id)


def show_errors_on_node(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Make a node's ``execute`` clear the node's text first, and show its own error there.

    The page shows errors in a dialog that hides their text; on the node it can be read.
    """

    @functools.wraps(execute)
    def execute_and_show(cls: Any, *args: Any, **inputs: Any) -> Any:
        node_id = cls.hidden.unique_id
        if node_id in _nodes_with_text:
            set_status(node_id, " ")  # The page ignores an empty text.
        try:
            return execute(cls, *args, **inputs)
        except ACFunError as error:
            set_status(node_id, error.message)
            raise

    return execute_and_show


def _run_id() -> str | None:
    """Return the id of this run of the graph, None outside ComfyUI's executor."""
    context = get_executing_context()
    return None if context is None else context.prompt_id
