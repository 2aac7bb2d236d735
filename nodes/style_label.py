"""What Load ACFun Style shows of a style: facts and picture, before it is run as after it."""

import asyncio
import time
from pathlib import Path
from typing import Any

from aiohttp import web
from comfy_api.latest import io, ui
from server import PromptServer

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.style.blend import CROSSED
from ..acfun_ops.style.model_spec import StyleCard
from ..acfun_ops.style.style import StyleFacts
from ..acfun_ops.style.style_file import read_label
from .library.folder import style_path
from .library.preview_image import read_preview
from .schema import said

ROUTE = "/acfun/style"
"""Answers what Load ACFun Style would show of ``?name=``; web/acfun.js asks when it is chosen."""


def register_route() -> None:
    """Let the page ask for a style's label."""
    routes = PromptServer.instance.routes
    # A second copy of the pack would end ComfyUI: a route may be added once only.
    if not any(getattr(route, "path", "") == ROUTE for route in routes):
        routes.get(ROUTE)(_answer)


async def _answer(request: web.Request) -> web.Response:
    try:
        shown = await asyncio.to_thread(_label_of, request.query.get("name", ""))
    except ACFunError as error:
        return web.json_response({"error": str(error)}, status=404)
    return web.json_response(shown)


def _label_of(name: str) -> dict[str, Any]:
    """Return the label of one of the listed styles; only the file's header is read."""
    path = style_path(name)
    return shown_label(path, *read_label(path))


def shown_label(
    path: Path, facts: StyleFacts, card: StyleCard, node: type[io.ComfyNode] | None = None
) -> dict[str, Any]:
    """Return a node's ``ui`` output that shows a style.

    Args:
        path: of the style's file, beside which its picture may be.
        facts: of the style.
        card: of the style.
        node: whose graph is to be written into the picture that the page gets.
    """
    shown = said(told_label(path, facts, card))
    picture = read_preview(path, card)
    return shown if picture is None else shown | ui.PreviewImage(picture, cls=node).as_dict()


def told_label(path: Path, facts: StyleFacts, card: StyleCard) -> str:
    """Return the facts that people choose a style by."""
    file = path.stat()
    date = card.date or time.strftime("%Y-%m-%d", time.localtime(file.st_mtime))
    kind, size = _kind_of(facts), file.st_size / 1e6
    author = f", by {card.author}" if card.author else ""
    under = f", {card.license}" if card.license else ""
    return (
        f"{kind}, {facts.steps} steps, {date}, {size:.2f} MB{author}{under}, "
        f"trained with: {facts.prompt}"
    )


def _kind_of(facts: StyleFacts) -> str:
    if facts.shares:
        shares = " : ".join(f"{share:.2f}" for share in facts.shares)
        return f"{facts.family} (a blend of {len(facts.shares)} styles at {shares})"
    if facts.settings.get("blend") == CROSSED:
        return f"{facts.family} (the abstract part of one style, the concrete part of another)"
    return facts.family
