"""The socket type, the category, the search words and the messages that the nodes share."""

import functools
import html
import inspect
import logging
from collections.abc import Callable
from typing import Any

from comfy_api.latest import io, ui
from server import PromptServer

from ..acfun_ops.errors import ACFunError

CATEGORY = "ACFun"

# ComfyUI 0.3.64 has no argument for them.
SEARCH: dict[str, Any] = (
    {
        "search_aliases": [
            "face style",
            "stylize",
            "portrait",
            "caricature",
            "one-shot",
            "style transfer",
        ]
    }
    if "search_aliases" in inspect.signature(io.Schema).parameters
    else {}
)

StyleSocket = io.Custom("ACFUN_STYLE")

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

_shown_on: set[str] = set()  # Nodes that a text stands on.


def check_connected(**sockets: Any) -> None:
    """Refuse sockets that bring nothing, by their names.

    Raises:
        ACFunError: the message names the first of them and what to connect.
    """
    for socket, brought in sockets.items():
        # A checkpoint without a VAE brings an empty one.
        if brought is None or getattr(brought, "first_stage_model", brought) is None:
            raise ACFunError(f"The socket {socket} brings nothing. Connect {_REMEDIES[socket]}.")


def tell(node_id: str, text: str) -> None:
    """Show a sentence on a node in the browser, and log it."""
    log.info(text)
    show(node_id, text)


def told(node_id: str, text: str) -> dict[str, Any] | None:
    """Say a notice on a node, if there is one; return it for the node's ``ui`` output."""
    if not text:
        return None
    tell(node_id, text)
    return said(text)


def said(text: str) -> dict[str, Any]:
    """Return a ``ui`` output that shows a text on its node, also when the run is from the cache."""
    return ui.PreviewText(text).as_dict() | {"acfun": (True,)}  # Read by web/acfun.js.


def show(node_id: str, text: str) -> None:
    """Show a text on a node in the browser; it replaces what stood there."""
    if PromptServer.instance.client_id is not None:
        _shown_on.add(node_id)
        # Some versions of the page take this for HTML, and a style's prompt may come from anyone.
        PromptServer.instance.send_progress_text(html.escape(text, quote=False), node_id)


def speaks_for_itself(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Make a node's ``execute`` clear what its last run showed, and show its own error.

    The page shows errors in a dialog that hides their text; on the node it is read.
    """

    @functools.wraps(execute)
    def speaking(cls: Any, *args: Any, **inputs: Any) -> Any:
        node_id = cls.hidden.unique_id
        if node_id in _shown_on:
            show(node_id, " ")  # The page passes over an empty text.
        try:
            return execute(cls, *args, **inputs)
        except ACFunError as error:
            show(node_id, str(error))
            raise

    return speaking
