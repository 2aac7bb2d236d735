"""The pack's menu: its nodes, and what it registers with ComfyUI."""

from comfy_api.latest import ComfyExtension, io
from server import PromptServer
from typing_extensions import override

from .apply_adapters import ApplyCFunAdapters
from .apply_embedding import ApplyAFunEmbedding
from .apply_style import ApplyACFunStyle
from .blend_styles import BlendACFunStyles
from .comfyui.prompt_graph import drop_preview_links
from .library.folder import register_folder
from .load_style import LoadACFunStyle, register_route
from .save_style import SaveACFunStyle
from .style_sheet import ACFunStyleSheet
from .train_style import TrainACFunStyle


class ACFunExtension(ComfyExtension):
    """The pack's nodes, in the order of its menu."""

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            TrainACFunStyle,
            ApplyACFunStyle,
            ApplyAFunEmbedding,
            ApplyCFunAdapters,
            BlendACFunStyles,
            SaveACFunStyle,
            LoadACFunStyle,
            ACFunStyleSheet,
        ]


async def comfy_entrypoint() -> ComfyExtension:
    """Return the extension; ComfyUI calls this once."""
    register_folder()  # Not in on_load, which ComfyUI 0.3.64 does not call.
    register_route()
    PromptServer.instance.add_on_prompt_handler(drop_preview_links)
    return ACFunExtension()
