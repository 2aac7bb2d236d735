"""Save ACFun Style."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from torch import Tensor
from typing_extensions import override

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.messages import Message, join_messages
from ..acfun_ops.style.model_spec import StyleCard
from ..acfun_ops.style.style import Style
from ..acfun_ops.style.style_file import load_style, read_facts, save_style
from .comfyui.node_status import show_errors_on_node, show_text
from .comfyui.prompt_graph import shows_its_training, style_image_name
from .library.folder import check_prefix, find_save_path, mark_saved
from .library.preview_image import (
    check_preview,
    preview_path,
    read_preview,
    thumbnail_of,
    write_preview,
)
from .library.runs import find_run_file
from .schema import CATEGORY, StyleSocket, search_aliases

_NAMELESS = "style"
_NO_PICTURE = "thumbnail is on, but no picture is in the file: connect one to preview."


class SaveACFunStyle(io.ComfyNode):
    """Writes a style to ``models/acfun``."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ACFunSaveStyle",
            display_name="Save ACFun Style",
            category=CATEGORY,
            **search_aliases("export", "share"),
            description="Writes a style to models/acfun as one small safetensors file that can be "
            "shared. The face photo is not in it.",
            inputs=[
                # Lazy, so that a linked name is checked before a training runs for it.
                StyleSocket.Input("style", lazy=True, tooltip="The style to save."),
                io.String.Input(
                    "filename_prefix",
                    default="",
                    tooltip="Start of the file's name; a number follows. Left empty, it is the "
                    "style picture's. Folders below models/acfun may be named: portraits/monet. "
                    "%date:yyyy-MM-dd% is today.",
                ),
                io.Image.Input(
                    "preview",
                    optional=True,
                    lazy=True,
                    tooltip="A picture drawn in the style, to stand beside the file: ComfyUI's "
                    "model library and Load ACFun Style show it. Of several the last; without any "
                    "the training's last preview.",
                ),
                io.Boolean.Input(
                    "thumbnail",
                    default=False,
                    optional=True,
                    tooltip="Also put the preview, small, into the file itself, for everyone whom "
                    "it is shared with. Off, no picture is in it.",
                ),
                io.String.Input(
                    "author",
                    default="",
                    optional=True,
                    tooltip="Who made the style, written into the file. May be empty.",
                ),
                io.String.Input(
                    "license",
                    default="",
                    optional=True,
                    tooltip="Under which it is shared, such as CC BY 4.0. May be empty.",
                ),
            ],
            outputs=[
                StyleSocket.Output("saved_style", display_name="style", tooltip="The same style.")
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: Any = None) -> bool | str:
        """Refuse a name that nothing can be saved under before a training runs for it."""
        try:
            if filename_prefix is not None:  # Which is a link's, before it has run.
                check_prefix(_prefix(filename_prefix, _NAMELESS))
        except ACFunError as error:
            return str(error)
        return True

    @classmethod
    @show_errors_on_node
    def check_lazy_status(cls, filename_prefix: Any, **inputs: Any) -> list[str]:
        """Ask for the style once the name is one that can be saved, then for its picture.

        Not for a picture made of the previews of a training that has left none.
        """
        missing = [name for name in ("style", "preview") if inputs.get(name, name) is None]
        if missing:
            check_prefix(_prefix(filename_prefix, _NAMELESS))
        if missing == ["preview"] and _has_none(inputs["style"]):
            prompt = cls.hidden.prompt or {}
            return [] if shows_its_training(prompt, cls.hidden.unique_id) else missing
        return missing[:1]

    @classmethod
    @show_errors_on_node
    def execute(
        cls,
        style: Style,
        filename_prefix: str,
        preview: Tensor | None = None,
        thumbnail: bool = False,
        author: str = "",
        license: str = "",
    ) -> io.NodeOutput:
        """Save the style, unless it is saved already, and show its path and size."""
        name = style_image_name(cls.hidden.prompt or {}, cls.hidden.unique_id)
        prefix = _prefix(filename_prefix, name or _NAMELESS)
        label = {"author": author.strip(), "license": license.strip()}
        text = _save_once(style, prefix, label, preview, thumbnail)
        return io.NodeOutput(style, ui=show_text(cls.hidden.unique_id, text))


def _save_once(
    style: Style, prefix: str, label: Mapping[str, str], preview: Tensor | None, has_thumbnail: bool
) -> str:
    """Write a style, unless the same one is there, and a picture beside it; say where they are.

    What the style's card says stays where the label (author, license) says nothing.
    """
    flaw, run_file = None, find_run_file(style)
    if preview is None and run_file is not None:
        preview = read_preview(run_file, StyleCard())
    try:
        if preview is not None:
            check_preview(preview)
    except ACFunError as error:  # A picture must not cost the style.
        preview, flaw = None, error
    thumbnail = style.card.thumbnail if has_thumbnail else ""
    if preview is not None and has_thumbnail:
        thumbnail = thumbnail_of(preview)
    wanted = replace(style, card=replace(_card(style.card, label), thumbnail=thumbnail))
    path, saved_before = find_save_path(prefix)
    found = _find_same(wanted, saved_before)
    if found is None:
        titled = replace(wanted, card=replace(wanted.card, title=path.stem.rsplit("_", 2)[0]))
        size = save_style(titled, path)
        text = Message(
            "Saved {name} ({size:.2f} MB, {steps} steps) in {folder}",
            name=path.name,
            folder=path.parent,
            size=size / 1e6,
            steps=style.facts.steps,
        )
    else:
        path, card = found
        text = Message(
            "Saved before as {name} in {folder}, unchanged; no second file was written",
            name=path.name,
            folder=path.parent,
        )
        if card.thumbnail != thumbnail:
            text = Message("{text}, and the picture inside stays as it was", text=text)
    if run_file is not None:
        mark_saved(run_file, path)
    try:
        if preview is not None:
            write_preview(preview, path)
    except ACFunError as error:
        flaw = error
    if flaw is not None:
        return Message("{text}, but without its preview. {error}", text=text, error=flaw)
    if preview is not None:
        return Message("{text}, with its preview beside it", text=text)
    if has_thumbnail and not thumbnail:
        return join_messages("\n", [text, _NO_PICTURE])
    if found is not None or preview_path(path).is_file():
        return text
    return Message(
        "{text}, without a preview: the training has left none, or it was deleted. Connect a "
        "picture to preview",
        text=text,
    )


def _has_none(style: Style) -> bool:
    """Tell whether the training that a style is the result of has left no preview."""
    run_file = find_run_file(style)
    return run_file is not None and read_preview(run_file, StyleCard()) is None


def _prefix(given: Any, name: str) -> Any:
    """Return the prefix that the user has given, or a name in place of an empty one."""
    return given if not isinstance(given, str) or given.strip() else name


def _card(card: StyleCard, label: Mapping[str, str]) -> StyleCard:
    given = {name: text for name, text in label.items() if text}
    today = datetime.date.today().isoformat()
    return replace(card, **given, date=card.date or today)


def _find_same(style: Style, paths: Sequence[Path]) -> tuple[Path, StyleCard] | None:
    """Return the file of the same style with the same label; when it was saved does not count."""
    for path in paths:
        facts = read_facts(path)
        if (facts.get("run"), facts.get("steps")) != (style.facts.run, style.facts.steps):
            continue
        try:
            saved = load_style(path)
        except ACFunError:
            continue  # A damaged file is none.
        if saved.digest == style.digest and _identity(saved.card) == _identity(style.card):
            return path, saved.card
    return None


def _identity(card: StyleCard) -> tuple[str, str, bool]:
    """Return what of a card makes another file; a picture drawn anew does not."""
    return card.author, card.license, bool(card.thumbnail)
