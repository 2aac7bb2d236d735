"""Workflows written as ComfyUI's page saves them, from a few lines each."""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "nodes" / "support"))

from workflow_prompts import WIDGET_TYPES, has_seed_control, has_upload

TOP, GAP, MARGIN = 0, 50, 12
NOTE_LINE, NOTE_LETTER, NOTE_MARGIN = 22, 6.5, 110
GROUP_TITLE = 75  # The group's title, and that of its first node.
COLOURS = ("#b58b2a", "#8A8", "#3f789e", "#a1309b")
PICTURE_HEIGHT = 190
PICTURE_NODES = ("LoadImage", "LoadImageMask", "SaveImage", "PreviewImage", "LossGraphNode")
# What a node shows after a run stands below its widgets.
GROWTH = {
    "ACFunTrainStyle": 330,
    "ACFunSaveStyle": 150,
    "ACFunLoadStyle": 330,
    "ACFunApplyStyle": 50,
    "ACFunApplyAdapters": 50,
    "ACFunStyleSheet": 300,
}
PACK_ID = "acfun-face-style"
# The page offers to download what is missing.
HUB = "https://huggingface.co/{}/resolve/main/{}"
_SPLIT = (
    ("diffusion_models", "z_image_bf16.safetensors", "Comfy-Org/z_image"),
    ("diffusion_models", "flux-2-klein-base-4b.safetensors", "Comfy-Org/flux2-klein"),
    ("text_encoders", "qwen_3_4b.safetensors", "Comfy-Org/z_image_turbo"),
    ("vae", "ae.safetensors", "Comfy-Org/z_image_turbo"),
    ("vae", "flux2-vae.safetensors", "Comfy-Org/flux2-dev"),
)
DOWNLOADS = {
    name: {"name": name, "directory": folder, "url": HUB.format(repository, file)}
    for folder, name, repository, file in (
        (
            "checkpoints",
            "v1-5-pruned-emaonly-fp16.safetensors",
            "Comfy-Org/stable-diffusion-v1-5-archive",
            "v1-5-pruned-emaonly-fp16.safetensors",
        ),
        (
            "clip_vision",
            "clip-vit-large-patch14.safetensors",
            "openai/clip-vit-large-patch14",
            "model.safetensors",
        ),
        (
            "controlnet",
            "control_v11p_sd15_canny_fp16.safetensors",
            "comfyanonymous/ControlNet-v1-1_fp16_safetensors",
            "control_v11p_sd15_canny_fp16.safetensors",
        ),
        (
            "upscale_models",
            "RealESRGAN_x4plus.safetensors",
            "Comfy-Org/Real-ESRGAN_repackaged",
            "RealESRGAN_x4plus.safetensors",
        ),
        *((folder, name, owner, f"split_files/{folder}/{name}") for folder, name, owner in _SPLIT),
    )
}


@dataclass(frozen=True)
class Slot:
    """An output of a node: what an input is connected to."""

    node: int
    number: int


class WorkflowFile:
    """A workflow in the making: nodes stand in columns, from top to bottom.

    Args:
        name: of the file, without suffix.
        object_info: ComfyUI's description of all nodes.
        note: Markdown that stands at the left.
        width: of each column's nodes, in the page's units.
    """

    def __init__(
        self, name: str, object_info: Mapping[str, Any], note: str, width: int = 290
    ) -> None:
        self.name, self.info = name, object_info
        self._width, self._step = width, width + 2 * MARGIN + 18
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self.groups: list[dict[str, Any]] = []
        self.extra: dict[str, Any] = {}
        self._column, self._next_top = -1, TOP
        self._append("MarkdownNote", (-self._step, TOP), (width, 0), "Read me", [note])
        self.nodes[0] |= {"color": "#432", "bgcolor": "#653"}

    def column(self, title: str) -> None:
        """Begin the next column, which is a group."""
        self._close()
        self._column, self._next_top = self._column + 1, TOP
        self.groups.append(
            {"id": len(self.groups) + 1, "title": f"{len(self.groups) + 1}. {title}"}
        )

    def add(self, kind: str, title: str | None = None, **inputs: Any) -> list[Slot]:
        """Add a node below the last one; return its outputs. A Slot is a link, the rest widgets."""
        info = self.info[kind]
        specs = {
            name: (group, info["input"][group][name])
            for group in ("required", "optional")
            for name in info["input_order"].get(group, [])
        }
        widgets, sockets, lines = [], [], 0
        for name, (group, spec) in specs.items():
            if isinstance(spec[0], list) or spec[0] in WIDGET_TYPES:
                value = inputs.pop(name, None)
                if isinstance(value, Slot):
                    sockets.append((name, {"widget": {"name": name}}, spec[0], value))
                    value = None
                widgets += _widget(name, spec, value)
                lines += 0 if _options(spec).get("advanced") else _lines(name, spec)
            else:
                shape = {"shape": 7} if group == "optional" else {}
                sockets.append((name, shape, spec[0], inputs.pop(name, None)))
        widgets += ["image" for _, spec in specs.values() if has_upload(spec)]
        if inputs:
            raise ValueError(f"{kind} has no inputs {', '.join(inputs)}.")
        height = 28 + 20 * max(len(sockets), len(info["output"])) + 25 * lines
        height += PICTURE_HEIGHT if kind in PICTURE_NODES else 0
        node = self._append(
            kind, (self._step * self._column, self._next_top), (self._width, height), title, widgets
        )
        self._next_top += height + GROWTH.get(kind, 0) + GAP
        for place, (name, shape, socket, slot) in enumerate(sockets):
            node["inputs"].append({"name": name, **shape, "type": socket, "link": None})
            if slot is not None:
                self._link(slot, node, place, socket)
        for name, socket in zip(info["output_name"], info["output"], strict=True):
            node["outputs"].append({"name": name, "type": socket, "links": []})
        pack = PACK_ID if kind.startswith("ACFun") else "comfy-core"
        node["properties"] = {"Node name for S&R": kind, "cnr_id": pack}
        downloads = [DOWNLOADS[value] for value in widgets if value in DOWNLOADS]
        node["properties"] |= {"models": downloads} if downloads else {}
        return [Slot(node["id"], number) for number in range(len(info["output"]))]

    def write(self, folder: Path) -> None:
        """Write the file."""
        self._close()
        self.nodes[0]["size"][1] = self._note_height()
        graph = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, self.name)),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": self.extra,
            "version": 0.4,
        }
        text = json.dumps(graph, indent=2, ensure_ascii=False)
        (folder / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")

    def _append(
        self,
        kind: str,
        place: tuple[int, int],
        size: tuple[int, int],
        title: str | None,
        widgets: list[Any],
    ) -> dict[str, Any]:
        node = {
            "id": len(self.nodes) + 1,
            "type": kind,
            "pos": list(place),
            "size": list(size),
            "flags": {},
            "order": len(self.nodes),
            "mode": 0,
            "inputs": [],
            "outputs": [],
            **({"title": title} if title else {}),
            "properties": {},
            "widgets_values": widgets,
        }
        self.nodes.append(node)
        return node

    def _link(self, slot: Slot, node: dict[str, Any], place: int, socket: str) -> None:
        number = len(self.links) + 1
        self.links.append([number, slot.node, slot.number, node["id"], place, socket])
        node["inputs"][place]["link"] = number
        self.nodes[slot.node - 1]["outputs"][slot.number]["links"].append(number)

    def _note_height(self) -> int:
        """Return about how much room the note's text needs."""
        text = re.sub(r"\]\([^)]*\)", "", self.nodes[0]["widgets_values"][0])
        letters = self._width / NOTE_LETTER
        lines = sum(1 + len(paragraph) // letters for paragraph in text.splitlines())
        return round(NOTE_MARGIN + NOTE_LINE * lines)

    def _close(self) -> None:
        if self._column < 0:
            return
        left, top = self._step * self._column - MARGIN, TOP - GROUP_TITLE
        bottom = self._next_top - GAP + MARGIN
        box = [left, top, self._width + 2 * MARGIN, bottom - top]
        colour = COLOURS[self._column % len(COLOURS)]
        self.groups[-1] |= {"bounding": box, "color": colour, "flags": {}, "font_size": 24}


def _widget(name: str, spec: list[Any], value: Any) -> list[Any]:
    """Return a widget's value, its default without one, and what the page saves behind."""
    options = _options(spec)
    if value is None:
        choices = spec[0] if isinstance(spec[0], list) else options.get("options")
        value = options.get("default", choices[0] if choices else "")
    return [value, *(["fixed"] if has_seed_control(name, spec) else [])]


def _lines(name: str, spec: list[Any]) -> int:
    """Return how many lines a widget takes; a seed has one more, an upload a button."""
    if _options(spec).get("multiline"):
        return 4
    return 1 + has_seed_control(name, spec) + has_upload(spec)


def _options(spec: list[Any]) -> Mapping[str, Any]:
    return spec[1] if len(spec) > 1 else {}
