"""All that the nodes may say, read from the code: each template, without its formats.

An f-string, which the page cannot translate, has numbers for its values.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

# Two words, where a value counts as one.
PHRASE = re.compile(r"[A-Za-z]{2,}\)?[,.:;]? [A-Za-z]{2,}")
FORMAT = re.compile(r"(?<=\w)(?:![rs])?:[^{} ]*\}|(?<=\w)![rs]\}")
VALUE = re.compile(r"\{\w*(?::[^{}]*)?\}")
# What these are given is a tooltip, a label or for the log.
ELSEWHERE = {"tooltip", "description", "display_name", "search_aliases"}
NOT_SHOWN_BY = {"strength_input", "ease_input", "_option", "_research", "info", "compile"}


def texts_in(path: Path) -> Iterator[str]:
    """Yield the texts of a module that are no docstring, tooltip or label."""
    yield from _texts(ast.parse(path.read_text(encoding="utf-8")))


def is_phrase(text: str) -> bool:
    """Tell whether a text is more than one word, and so something to read."""
    return bool(PHRASE.search(VALUE.sub("value", text)))


def _texts(tree: ast.AST) -> Iterator[str]:
    if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
        return  # A docstring.
    if isinstance(tree, ast.keyword) and tree.arg in ELSEWHERE:
        return
    if isinstance(tree, ast.Call) and _name_of(tree.func) in NOT_SHOWN_BY:
        return
    text = _text_of(tree)
    if text is not None:
        yield numbered(text) if isinstance(tree, ast.JoinedStr) else FORMAT.sub("}", text)
    children = ast.iter_child_nodes(tree)
    if isinstance(tree, ast.JoinedStr):
        children = (part.value for part in tree.values if isinstance(part, ast.FormattedValue))
    for child in children:
        yield from _texts(child)


def numbered(text: str) -> str:
    """Return a text whose values are numbered in their order."""
    first, *others = VALUE.split(text)
    return first + "".join(f"{{{n}}}{part}" for n, part in enumerate(others))


def _text_of(tree: ast.AST) -> str | None:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        return tree.value
    if isinstance(tree, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in tree.values
        )
    return None


def _name_of(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))
