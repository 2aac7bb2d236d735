"""Saving a style for people: with its title, date and picture, and only once."""

import datetime
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.style.model_spec import StyleCard
from ...acfun_ops.style.style import Style
from ...acfun_ops.style.style_file import load_style, read_facts, save_style
from .folder import new_style_path, saved_paths
from .preview_image import thumbnail_of, write_preview

_NO_PICTURE = "thumbnail is on, but no picture is in the file: connect one to preview."


def save_once(
    style: Style,
    prefix: str,
    label: Mapping[str, str],
    preview: Tensor | None,
    has_thumbnail: bool,
) -> str:
    """Write a style under a prefix, unless the same one is there, and a picture beside it.

    Args:
        style: what its card says stays where the label says nothing.
        prefix: of the file's name, numbered.
        label: "author" and "license", each perhaps empty.
        preview: an IMAGE whose last picture is put beside the file.
        has_thumbnail: whether it is put into the file as well; if not, no picture is in it.

    Returns:
        A sentence that says where the style is.

    Raises:
        ACFunError: it cannot be written.
    """
    thumbnail = style.card.thumbnail if has_thumbnail else ""
    if preview is not None and has_thumbnail:
        thumbnail = thumbnail_of(preview)
    wanted = replace(style, card=replace(_card(style.card, label), thumbnail=thumbnail))
    found = _same_saved(wanted, prefix)
    if found is None:
        path = new_style_path(prefix)
        titled = replace(wanted, card=replace(wanted.card, title=path.stem.rsplit("_", 2)[0]))
        size = save_style(titled, path)
        text = f"Saved {path} ({size / 1e6:.2f} MB, {style.facts.steps} steps)"
    else:
        path, card = found
        text = f"Saved before as {path}, unchanged; no second file was written"
        if card.thumbnail != thumbnail:
            text = f"{text}, and the picture inside stays as it was"
    if preview is None:
        return f"{text}\n{_NO_PICTURE}" if has_thumbnail and not thumbnail else text
    try:
        write_preview(preview, path)
    except ACFunError as error:
        return f"{text}, but without its preview. {error}"
    return f"{text}, with its preview beside it"


def _card(card: StyleCard, label: Mapping[str, str]) -> StyleCard:
    given = {name: text for name, text in label.items() if text}
    today = datetime.date.today().isoformat()
    return replace(card, **given, date=card.date or today)


def _same_saved(style: Style, prefix: str) -> tuple[Path, StyleCard] | None:
    """Return the file of the same style with the same label; when it was saved does not count."""
    for path in saved_paths(prefix):
        facts = read_facts(path)
        if (facts.get("run"), facts.get("steps")) != (style.facts.run, style.facts.steps):
            continue
        try:
            saved = load_style(path)
        except ACFunError:
            continue  # A damaged file is none.
        if saved.digest == style.digest and _said(saved.card) == _said(style.card):
            return path, saved.card
    return None


def _said(card: StyleCard) -> tuple[str, str, bool]:
    """Return what of a card makes another file; a picture drawn anew does not."""
    return card.author, card.license, bool(card.thumbnail)
