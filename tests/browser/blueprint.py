"""The pack's blueprint: a subgraph that the node library offers as one node."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow_files import PACK_ID, Slot, WorkflowFile
from workflow_graph import SAMPLER, TEXT

NAME = "Face in a style"
ABOUT = "Trains a style on one style picture and one face photo, and draws the face in it."
INPUT, OUTPUT = -10, -20  # The page's numbers for the subgraph's two ends.
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


class Blueprint(WorkflowFile):
    """A subgraph in the making."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        super().__init__(NAME, info, "")
        self.nodes.clear()  # A subgraph has no note.
        self.ends: dict[int, list[dict[str, Any]]] = {INPUT: [], OUTPUT: []}

    def add_input(self, name: str, kind: str) -> Slot:
        """Add an input of the whole; return it as the nodes inside see it."""
        return Slot(INPUT, self._add_end(INPUT, name, kind))

    def add_output(self, name: str, kind: str, slot: Slot) -> None:
        """Add an output of the whole."""
        place = self._add_end(OUTPUT, name, kind)
        link = [len(self.links) + 1, slot.node, slot.number, OUTPUT, place, kind]
        self.links.append(link)
        self.nodes[slot.node - 1]["outputs"][slot.number]["links"].append(link[0])
        self.ends[OUTPUT][place]["linkIds"].append(link[0])

    def write(self, folder: Path) -> None:
        """Write the file."""
        subgraph = {
            "id": _id(self.name),
            "version": 1,
            "state": {
                "lastGroupId": 0,
                "lastNodeId": len(self.nodes),
                "lastLinkId": len(self.links),
                "lastRerouteId": 0,
            },
            "revision": 0,
            "config": {},
            "name": self.name,
            "inputNode": {"id": INPUT, "bounding": [-300, 0, 160, 40 + 20 * len(self.ends[INPUT])]},
            "outputNode": {"id": OUTPUT, "bounding": [1300, 0, 160, 80]},
            "inputs": self.ends[INPUT],
            "outputs": self.ends[OUTPUT],
            "widgets": [],
            "nodes": self.nodes,
            "groups": [],
            "links": [dict(zip(LINK, link, strict=True)) for link in self.links],
            "extra": {},
            "category": "ACFun",
            "description": ABOUT,
        }
        inputs = [
            {"name": end["name"], "type": end["type"], "link": None}
            | ({"widget": {"name": end["name"]}} if end["type"] == "STRING" else {})
            for end in self.ends[INPUT]
        ]
        node = {
            "id": 1,
            "type": subgraph["id"],
            "pos": [0, 0],
            "size": [320, 300],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": inputs,
            "outputs": [
                {"name": end["name"], "type": end["type"], "links": []} for end in self.ends[OUTPUT]
            ],
            "title": self.name,
            "properties": {"proxyWidgets": [["-1", "prompt"]], "cnr_id": PACK_ID},
            "widgets_values": [TEXT],
        }
        content = {
            "revision": 0,
            "last_node_id": 1,
            "last_link_id": 0,
            "nodes": [node],
            "links": [],
            "version": 0.4,
            "definitions": {"subgraphs": [subgraph]},
            "extra": {},
        }
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (folder / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")

    def _add_end(self, end: int, name: str, kind: str) -> int:
        place = len(self.ends[end])
        position = [-160 if end == INPUT else 1320, 20 + 20 * place]
        self.ends[end].append(
            {"id": _id(name), "name": name, "type": kind, "linkIds": [], "pos": position}
        )
        return place

    def _link(self, slot: Slot, node: dict[str, Any], place: int, socket: str) -> None:
        if slot.node != INPUT:
            super()._link(slot, node, place, socket)
            return
        number = len(self.links) + 1
        self.links.append([number, INPUT, slot.number, node["id"], place, socket])
        node["inputs"][place]["link"] = number
        self.ends[INPUT][slot.number]["linkIds"].append(number)


def style_face(info: Mapping[str, Any]) -> Blueprint:
    """Return the blueprint of training, applying, sampling and decoding."""
    graph = Blueprint(info)
    model, clip, vae, vision = (
        graph.add_input(name, name.upper()) for name in ("model", "clip", "vae", "clip_vision")
    )
    style_image, face_image = (
        graph.add_input(name, "IMAGE") for name in ("style_image", "face_image")
    )
    prompt = graph.add_input("prompt", "STRING")
    negative = graph.add_input("negative", "CONDITIONING")
    latent = graph.add_input("latent_image", "LATENT")
    graph.column("Train")
    style, _, _ = graph.add(
        "ACFunTrainStyle",
        model=model,
        clip=clip,
        vae=vae,
        clip_vision=vision,
        style_image=style_image,
        face_image=face_image,
        prompt=prompt,
    )
    graph.column("Apply")
    styled, positive = graph.add(
        "ACFunApplyStyle", model=model, clip=clip, style=style, text=prompt
    )
    graph.column("Draw")
    (latents,) = graph.add(
        "KSampler",
        model=styled,
        positive=positive,
        negative=negative,
        latent_image=latent,
        seed=0,
        **SAMPLER,
    )
    (image,) = graph.add("VAEDecode", samples=latents, vae=vae)
    graph.add_output("image", "IMAGE", image)
    graph.add_output("style", graph.info["ACFunTrainStyle"]["output"][0], style)
    return graph


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK_ID}/{name}"))
