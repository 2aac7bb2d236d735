"""The socket type, the category, the search words and the messages that the nodes share."""

import html
import inspect
import logging
from typing import Any

from comfy_api.latest import io
from server import PromptServer

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


def tell(node_id: str, text: str) -> None:
    """Show a sentence on a node in the browser, and log it."""
    log.info(text)
    if PromptServer.instance.client_id is not None:
        # Some versions of the page take this for HTML, and a style's prompt may come from anyone.
        PromptServer.instance.send_progress_text(html.escape(text, quote=False), node_id)
