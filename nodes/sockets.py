"""The socket type, the category and the messages that the nodes share."""

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
        PromptServer.instance.send_progress_text(text, node_id)
