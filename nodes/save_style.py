"""Save ACFun Style and Load ACFun Style."""

import hashlib
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.style.style import Style
from ..acfun_ops.style.style_file import load_style
from .library.folder import check_prefix, style_names, style_path
from .library.saved_style import save_once
from .schema import (
    CATEGORY,
    SEARCH,
    StyleSocket,
    speaks_for_itself,
    tell,
    told,
)
from .style_label import shown_label, told_label


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
                io.Image.Input(
                    "preview",
                    optional=True,
                    lazy=True,
                    tooltip="A picture drawn in the style, to stand beside the file: ComfyUI's "
                    "model library and Load ACFun Style show it. Of several the last.",
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
    def check_lazy_status(cls, filename_prefix: Any, **inputs: Any) -> list[str]:
        """Ask for the style and its picture once the name is one that can be saved."""
        check_prefix(filename_prefix)
        return [name for name in ("style", "preview") if inputs.get(name, name) is None]

    @classmethod
    @speaks_for_itself
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
        label = {"author": author.strip(), "license": license.strip()}
        text = save_once(style, filename_prefix, label, preview, thumbnail)
        return io.NodeOutput(style, ui=told(cls.hidden.unique_id, text))


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
    @speaks_for_itself
    def execute(cls, style_file: str) -> io.NodeOutput:
        """Load the style, and show its facts and its picture."""
        path = style_path(style_file)
        style = load_style(path)
        tell(cls.hidden.unique_id, told_label(path, style.facts, style.card))
        return io.NodeOutput(style, ui=shown_label(path, style.facts, style.card, cls))
