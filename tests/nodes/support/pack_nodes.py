"""The pack's nodes, executed in this process as ComfyUI's executor executes them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from aiohttp import web
from comfy_api.internal import make_locked_method_func
from comfy_api.latest import io
from comfy_library import ComfyLibrary
from server import PromptServer
from style_graphs import kept_training
from torch import Tensor

NODE_ID = "node"
DOING = re.compile(r"Loading |Encoding |Redrawing |step \d")
# What torch and Python say where a sentence of ours should stand.
RAW_ERRORS = re.compile(
    r"size mismatch|must match the size|mat1 and mat2|shapes cannot|Expected .*channel|not subscri"
    r"|has no attribute|NoneType",
    re.IGNORECASE,
)
Weights = dict[str, Tensor]


class PackNodes:
    """Calls the nodes with their defaults for what they require, in inference mode.

    `texts` holds each sentence that the nodes have shown on themselves, once a run, without what
    they were doing; `shown` holds the lines that stand there, and `ui` what the last node left for
    the page. Trained styles, and the losses of what was trained
    to be compared with, are kept for the session.
    """

    def __init__(self, pack: ModuleType, comfy: ComfyLibrary) -> None:
        import acfun_pack.acfun_ops.style.style as style_module
        import acfun_pack.acfun_ops.style.style_file as style_file
        import acfun_pack.nodes.library.folder as style_folder
        from acfun_pack.acfun_ops.errors import ACFunError

        self.error = ACFunError
        self.style_file = style_file
        self.style_module = style_module
        self.folder = style_folder
        self.texts: list[str] = []
        self.shown: list[str] = []
        self.ui: dict[str, Any] | None = None
        self.messages: list[dict[str, Any]] = []
        self.style = cache(self._train_style)
        self.losses = cache(lambda **inputs: self.train(**inputs)[1])
        # The nodes show their texts through the server, which does not run in this process.
        PromptServer.instance = SimpleNamespace(
            client_id="test",
            routes=web.RouteTableDef(),
            add_on_prompt_handler=lambda handler: None,
            send_progress_text=lambda text, node_id: self._hear(text),
            send_sync=lambda event, data, client: self.messages.append(data),
        )
        extension = asyncio.run(pack.comfy_entrypoint())
        nodes = asyncio.run(extension.get_node_list())
        self.nodes = {node.GET_SCHEMA().node_id: node for node in nodes}
        self._comfy = comfy

    def run(self, node_id: str, **inputs: Any) -> tuple[Any, ...]:
        """Run a node; return its outputs."""
        node = self.nodes[node_id]
        schema = node.GET_SCHEMA()
        defaults = {i.id: getattr(i, "default", None) for i in schema.inputs if not i.optional}
        values = {name: default for name, default in defaults.items() if default is not None}
        clone = node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: NODE_ID}})
        with torch.inference_mode():
            given = values | inputs
            if node.INPUT_IS_LIST:
                given = {k: v if isinstance(v, list) else [v] for k, v in given.items()}
            output = make_locked_method_func(node, "execute", clone)(**given)
        self.ui = output.ui
        return output.args

    def _hear(self, text: str) -> None:
        lines = text.strip().split("\n")
        new = [line for line in lines if line and line not in self.shown]
        self.texts += [line for line in new if not DOING.match(line)]
        self.shown = lines

    def train(self, checkpoint: str = "sd1", **inputs: Any) -> tuple[Any, Any, Any]:
        """Train on a tiny checkpoint; return style, losses and previews."""
        style, loss, previews = self.run(
            "ACFunTrainStyle", **self.train_inputs(checkpoint) | inputs
        )
        return style, loss["loss"], previews

    def train_inputs(self, checkpoint: str = "sd1") -> dict[str, Any]:
        """Return inputs for a training that takes a second or two and changes a lot."""
        model, clip, vae = self._comfy.checkpoint(checkpoint)
        return {
            "model": model,
            "clip": clip,
            "vae": vae,
            "clip_vision": self._comfy.clip_vision(),
            "style_image": picture(1),
            "face_image": picture(2),
            "prompt": "A painting of a person in S* style",
            "steps": 2,
            "learning_rate": 0.02,
            "resolution": 64,
            "preview_every": 0,
            "rank": 8,
            "alignment": "staged",
            "retrain": True,
        }

    def embed(self, style: Any, clip: Any, text: str, strength: float = 1.0) -> Any:
        """Return the CONDITIONING of Apply AFun Embedding."""
        inputs = {"style": style, "clip": clip, "text": text, "strength": strength}
        return self.run("ACFunApplyEmbedding", **inputs)[0]

    def adapt(self, model: Any, style: Any, **inputs: Any) -> Any:
        """Return the MODEL of Apply CFun Adapters."""
        return self.run("ACFunApplyAdapters", model=model, style=style, **inputs)[0]

    def kept_style(self) -> tuple[Any, Path]:
        """Load the style that the last text says was kept; return it and its path."""
        path = kept_training(self.folder.style_folder(), self.texts[-1])
        return self.run("ACFunLoadStyle", style_file=f"training/{path.name}")[0], path

    def bytes_of(self, style: Any) -> bytes:
        """Return a style's file."""
        return self.style_module.style_bytes(style)

    def _train_style(self, checkpoint: str = "sd1", seed: int = 0) -> Any:
        """Return a style whose every part has been trained, strongly."""
        return self.train(checkpoint, steps=3, seed=seed)[0]


def short_redrawing() -> Any:
    """Return the method with a face redrawn in two steps; each needs what the others need."""
    from acfun_pack.acfun_ops.method.alignment_loss import SETTINGS

    return replace(SETTINGS, redrawing=replace(SETTINGS.redrawing, steps=2))


def with_inserts(style: Any, change: Any) -> Any:
    """Return a style with `change(block, name, tensor)` for each tensor of its inserts."""
    return replace(
        style,
        concrete={
            block: {name: change(block, name, tensor) for name, tensor in state.items()}
            for block, state in style.concrete.items()
        },
    )


def without_inserts(style: Any, *parts: str) -> Any:
    """Return a style whose inserts, in blocks that start with one of `parts`, are untrained."""

    def change(block: str, name: str, tensor: Tensor) -> Tensor:
        is_zeroed = name.startswith(("scale.", "shift.")) and block.startswith(parts)
        return torch.zeros_like(tensor) if is_zeroed else tensor

    return with_inserts(style, change)


def with_facts(style_bytes: bytes, facts: Mapping[str, Any]) -> bytes:
    """Return a style's file with some of its facts changed."""
    from safetensors.torch import load, save

    length = int.from_bytes(style_bytes[:8], "little")
    metadata = json.loads(style_bytes[8 : 8 + length])["__metadata__"]
    changed = json.loads(metadata["acfun_style"]) | dict(facts)
    return save(load(style_bytes), {"acfun_style": json.dumps(changed)})


def picture(seed: int, height: int = 64, width: int = 64, channels: int = 3) -> Tensor:
    """Return a coarse random picture as an IMAGE, `(1, height, width, channels)` in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).contiguous()
