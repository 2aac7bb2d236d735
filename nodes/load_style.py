"""Load ACFun Style, and the route that tells the page of a style before the node runs."""

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

from aiohttp import web
from comfy_api.latest import io, ui
from server import PromptServer
from typing_extensions import override

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.messages import Message
from ..acfun_ops.style.blend import CROSSED
from ..acfun_ops.style.model_spec import StyleCard, shorten
from ..acfun_ops.style.style import StyleFacts
from ..acfun_ops.style.style_file import load_style, read_label
from .comfyui.node_status import show_errors_on_node, show_text, ui_text
from .library.folder import style_names, style_path
from .library.preview_image import read_preview, ui_image
from .schema import CATEGORY, StyleSocket, search_aliases

ROUTE = "/acfun/style"
"""Answers what Load ACFun Style would show of ``?name=``; web/acfun.js asks when it is chosen."""


class LoadACFunStyle(io.ComfyNode):
    """Reads a style from ``models/acfun``."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ACFunLoadStyle",
            display_name="Load ACFun Style",
            category=CATEGORY,
            **search_aliases("open", "import"),
            description="Reads a style from models/acfun. Trainings are listed under training/ by "
            "prompt, steps and date.",
            inputs=[
                io.Combo.Input(
                    "style_file",
                    options=style_names(),
                    tooltip="A file of models/acfun. Press R to refresh the list.",
                )
            ],
            outputs=[
                StyleSocket.Output(
                    "style", display_name="style", tooltip="The style, to apply or to train on."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, style_file: Any = None) -> bool | str:
        """Say what is wrong with a name before anything runs."""
        try:
            if style_file is not None:  # Which is a link's, before it has run.
                style_path(style_file)
        except ACFunError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, style_file: Any = None) -> str:
        """Read the file again when its content has changed on disk."""
        if style_file is None:
            return ""  # The link decides.
        return hashlib.sha256(style_path(style_file).read_bytes()).hexdigest()

    @classmethod
    @show_errors_on_node
    def execute(cls, style_file: str) -> io.NodeOutput:
        """Load the style, and show its facts and its picture."""
        path = style_path(style_file)
        style = load_style(path)
        show_text(cls.hidden.unique_id, label_text(path, style.facts, style.card))
        return io.NodeOutput(style, ui=ui_label(path, style.facts, style.card, cls))


def register_route() -> None:
    """Let the page ask for a style's label."""
    routes = PromptServer.instance.routes
    # A second copy of the pack would end ComfyUI: a route may be added once only.
    if not any(getattr(route, "path", "") == ROUTE for route in routes):
        routes.get(ROUTE)(_answer)


async def _answer(request: web.Request) -> web.Response:
    name = request.query.get("name", "")
    try:
        shown = await asyncio.to_thread(_read_ui_label, name)
    except ACFunError as error:
        return web.json_response(ui_text(error.message), status=404)
    except (OSError, ValueError) as error:  # Gone since it was listed, or no name for a file.
        reason = getattr(error, "strerror", None) or error
        text = Message(
            "{name} could not be read: {value}. Choose another file.", name=name, value=reason
        )
        return web.json_response(ui_text(text), status=404)
    return web.json_response(shown)


def _read_ui_label(name: str) -> dict[str, Any]:
    """Return the label of one of the listed styles; only the file's header is read."""
    path = style_path(name)
    return ui_label(path, *read_label(path))


def ui_label(
    path: Path, facts: StyleFacts, card: StyleCard, node: type[io.ComfyNode] | None = None
) -> dict[str, Any]:
    """Return a node's ``ui`` output that shows a style.

    Args:
        path: of the style's file, beside which its picture may be.
        facts: of the style.
        card: of the style.
        node: whose graph is written into the image that the page gets, None for no graph.
    """
    shown = ui_text(label_text(path, facts, card))
    picture = read_preview(path, card)
    if picture is None:
        return shown
    if node is None:
        return shown | ui_image(picture)
    return shown | ui.PreviewImage(picture, cls=node).as_dict()


def label_text(path: Path, facts: StyleFacts, card: StyleCard) -> str:
    """Return the facts that people choose a style by."""
    file = path.stat()
    date = card.date or time.strftime("%Y-%m-%d", time.localtime(file.st_mtime))
    kind, size = _kind_of(facts), file.st_size / 1e6
    author = Message(", by {author}", author=card.author) if card.author else ""
    under = f", {card.license}" if card.license else ""
    return Message(
        "{kind}, {steps} steps, {date}, {size:.2f} MB{author}{under}, trained with: {prompt}",
        kind=kind,
        steps=facts.steps,
        date=date,
        size=size,
        author=author,
        under=under,
        prompt=shorten(facts.prompt),
    )


def _kind_of(facts: StyleFacts) -> str:
    if facts.shares:
        shares = " : ".join(f"{share:.2f}" for share in facts.shares)
        return Message(
            "{family} (a blend of {count} styles at {shares})",
            family=facts.family,
            count=len(facts.shares),
            shares=shares,
        )
    if facts.settings.get("blend") == CROSSED:
        return Message(
            "{family} (the abstract part of one style, the concrete part of another)",
            family=facts.family,
        )
    return facts.family
