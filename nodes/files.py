"""Save ACFun Style and Load ACFun Style."""

import hashlib
from typing import Any

from comfy_api.latest import io, ui

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.style.style import Style
from ..acfun_ops.style.style_file import load_style, save_style
from .sockets import CATEGORY, SEARCH, StyleSocket, speaks_for_itself, tell
from .style_folder import check_prefix, new_style_path, style_names, style_path


class SaveACFunStyle(io.ComfyNode):
    """Writes a style to ``models/acfun``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="ACFunSaveStyle",
            display_name="Save ACFun Style",
            category=CATEGORY,
            **SEARCH,
            description="Writes a style to models/acfun as one small safetensors file that can be "
            "shared. The face photo is not in it.",
            inputs=[
                # Lazy, so that a linked name is checked before a training runs for it.
                StyleSocket.Input("style", lazy=True, tooltip="The style to save."),
                io.String.Input(
                    "filename_prefix",
                    default="style",
                    tooltip="Start of the file's name; a number follows. Folders below "
                    "models/acfun may be named: portraits/monet. %date:yyyy-MM-dd% is today.",
                ),
            ],
            outputs=[
                StyleSocket.Output("saved_style", display_name="style", tooltip="The same style.")
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: Any = None) -> bool | str:
        """Refuse a name that nothing can be saved under before a training runs for it."""
        try:
            if filename_prefix is not None:  # Which is a link's, before it has run.
                check_prefix(filename_prefix)
        except ACFunError as error:
            return str(error)
        return True

    @classmethod
    @speaks_for_itself
    def check_lazy_status(cls, filename_prefix: Any, style: Style | None = None) -> list[str]:
        """Ask for the style once the name is known to be one that can be saved."""
        check_prefix(filename_prefix)
        return ["style"] if style is None else []

    @classmethod
    @speaks_for_itself
    def execute(cls, style: Style, filename_prefix: str) -> io.NodeOutput:
        """Save the style and show its path and size."""
        path = new_style_path(filename_prefix)
        size = save_style(style, path)
        text = f"Saved {path} ({size / 1e6:.2f} MB, {style.facts.steps} steps)"
        tell(cls.hidden.unique_id, text)
        return io.NodeOutput(style, ui=ui.PreviewText(text))


class LoadACFunStyle(io.ComfyNode):
    """Reads a style from ``models/acfun``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="ACFunLoadStyle",
            display_name="Load ACFun Style",
            category=CATEGORY,
            **SEARCH,
            description="Reads a style from models/acfun. Runs that were cancelled or failed are "
            "listed under training/.",
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
    @speaks_for_itself
    def execute(cls, style_file: str) -> io.NodeOutput:
        """Load the style."""
        style = load_style(style_path(style_file))
        facts = style.facts
        tell(
            cls.hidden.unique_id,
            f"{facts.family}, {facts.steps} steps, trained with: {facts.prompt}",
        )
        return io.NodeOutput(style)
