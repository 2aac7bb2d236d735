"""The socket type, the category and the messages that the nodes share."""

import html
import logging

from comfy_api.latest import io
from server import PromptServer

CATEGORY = "ACFun"

StyleSocket = io.Custom("ACFUN_STYLE")

log = logging.getLogger("ACFun")


def tell(node_id: str, text: str) -> None:
    """Show a sentence on a node in the browser, and log it."""
    log.info(text)
    if PromptServer.instance.client_id is not None:
        # Some versions of the page take this for HTML, and a style's prompt may come from anyone.
        PromptServer.instance.send_progress_text(html.escape(text, quote=False), node_id)
