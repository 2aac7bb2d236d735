"""Turns a workflow as ComfyUI's page saves it into the prompt that the page would send.

The browser tests hold it equal to the page's own conversion. It knows what the pack's workflows
use: widgets, links, notes, reroutes, muted and bypassed nodes; subgraphs and primitives it refuses.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Workflow = Mapping[str, Any]
ObjectInfo = Mapping[str, Mapping[str, Any]]
Overrides = Mapping[str, Mapping[str, Any]]
Prompt = dict[str, dict[str, Any]]
Link = tuple[int, int, str]  # Origin node, origin slot, type.

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS_DIR = ROOT / "workflows"
ACTIVE, MUTED, BYPASSED = 0, 2, 4
NOTES = ("Note", "MarkdownNote")
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
SEED_NAMES = ("seed", "noise_seed")
UPLOADS = ("image_upload", "video_upload", "audio_upload")
TRAIN, CONTROLNET, LORA = (
    "1 Train a style and apply it",
    "8 With a ControlNet",
    "9 With a LoRA and upscaling",
)
SAVED, HALVES = "2 Apply a saved style", "3 Both halves apart"
PLAIN = (TRAIN, SAVED, HALVES, CONTROLNET, LORA)  # The others are run on the small prior, but:
TRANSFORMERS = {"15 Train on Z-Image": "zimage", "16 Train on Flux.2 klein": "flux2"}


def workflow_names() -> list[str]:
    """Return the names of the pack's workflows, in order."""
    names = [path.stem for path in WORKFLOWS_DIR.glob("*.json")]
    return sorted(names, key=lambda name: int(name.split()[0]))


def load_workflow(name: str) -> dict[str, Any]:
    """Return one of the pack's workflows."""
    return json.loads((WORKFLOWS_DIR / f"{name}.json").read_text(encoding="utf-8"))


def to_prompt(
    workflow: Workflow, object_info: ObjectInfo, overrides: Overrides | None = None
) -> Prompt:
    """Return the prompt of a workflow, in the API format.

    Args:
        workflow: the workflow, as the page saves it.
        object_info: the answer of `/object_info`; it holds the order and kind of all widgets.
        overrides: values by node title or node type, then by input name.

    Raises:
        ValueError: the workflow does not fit the nodes, or an override fits no node or input.
    """
    if (workflow.get("definitions") or {}).get("subgraphs"):
        raise ValueError("Subgraphs are not supported.")
    nodes = {node["id"]: node for node in workflow["nodes"] if node["type"] not in NOTES}
    links = {link[0]: (link[1], link[2], link[5]) for link in workflow["links"]}
    prompt: Prompt = {}
    for node_id, node in nodes.items():
        if node["mode"] == ACTIVE and node["type"] != "Reroute":
            prompt[str(node_id)] = _prompt_node(node, nodes, links, object_info)
    _apply(overrides or {}, prompt, object_info)
    return prompt


def with_mode(workflow: Workflow, node_type: str, mode: int) -> dict[str, Any]:
    """Return a copy of a workflow with all nodes of a type muted or bypassed."""
    changed = copy.deepcopy(dict(workflow))
    for node in changed["nodes"]:
        if node["type"] == node_type:
            node["mode"] = mode
    return changed


def node_id(prompt: Prompt, name: str) -> str:
    """Return the id of the only node with a title or, if there is none, of a type."""
    (found,) = _named(prompt, name)
    return found


def widget_values(node: Mapping[str, Any], definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved node's widget values by input name.

    Raises:
        ValueError: the node holds more or fewer values than it has widgets.
    """
    saved = list(node.get("widgets_values") or [])
    values: dict[str, Any] = {}
    position = 0
    specs = _widget_specs(definition)
    for name, spec in specs:
        values[name] = saved[position] if position < len(saved) else None
        position += 1 + has_seed_control(name, spec)
    position += sum(has_upload(spec) for _, spec in specs)
    if position != len(saved):
        raise ValueError(
            f"{node['type']} (node {node['id']}) saves {len(saved)} widget values, but ComfyUI's "
            f"definition makes {position}: open the workflow in the page and save it again."
        )
    return values


def _prompt_node(
    node: Mapping[str, Any],
    nodes: Mapping[int, Mapping[str, Any]],
    links: Mapping[int, Link],
    object_info: ObjectInfo,
) -> dict[str, Any]:
    definition = object_info.get(node["type"])
    if definition is None:
        raise ValueError(f"ComfyUI has no node {node['type']} (node {node['id']}).")
    inputs = widget_values(node, definition)
    for slot in node.get("inputs", []):
        if slot.get("link") is None:
            continue
        origin = _origin(links[slot["link"]], nodes, links)
        if origin is None:
            inputs.pop(slot["name"], None)
        else:
            inputs[slot["name"]] = origin
    title = node.get("title") or definition["display_name"] or node["type"]
    return {"inputs": inputs, "class_type": node["type"], "_meta": {"title": title}}


def _origin(
    link: Link, nodes: Mapping[int, Mapping[str, Any]], links: Mapping[int, Link]
) -> list[Any] | None:
    """Return the active node and slot that a link leads back to, None if there is none."""
    origin_id, slot, link_type = link
    origin = nodes[origin_id]
    passes_on = origin["type"] == "Reroute" or origin["mode"] == BYPASSED
    if origin["mode"] == ACTIVE and not passes_on:
        return [str(origin_id), slot]
    if origin["mode"] == MUTED:
        return None
    inputs = origin.get("inputs", [])
    same_slot = [inputs[slot]] if slot < len(inputs) else []
    for candidate in [*same_slot, *inputs]:
        if origin["type"] == "Reroute" or candidate["type"] == link_type:
            following = candidate.get("link")
            return None if following is None else _origin(links[following], nodes, links)
    return None


def _widget_specs(definition: Mapping[str, Any]) -> list[tuple[str, list[Any]]]:
    """Return names and specifications of the inputs that are widgets, in order."""
    specs = []
    for group in ("required", "optional"):
        for name in definition["input_order"].get(group, []):
            spec = definition["input"][group][name]
            is_widget = isinstance(spec[0], list) or spec[0] in WIDGET_TYPES
            if is_widget and not _options(spec).get("forceInput"):
                specs.append((name, spec))
    return specs


def has_seed_control(name: str, spec: list[Any]) -> bool:
    """Tell whether the page saves what becomes of a seed behind a widget's value."""
    default = spec[0] == "INT" and name in SEED_NAMES
    return bool(_options(spec).get("control_after_generate", default))


def has_upload(spec: list[Any]) -> bool:
    """Tell whether a widget has an upload button, which the page saves after all widgets."""
    return any(_options(spec).get(upload) for upload in UPLOADS)


def _options(spec: list[Any]) -> Mapping[str, Any]:
    return spec[1] if len(spec) > 1 else {}


def _apply(overrides: Overrides, prompt: Prompt, object_info: ObjectInfo) -> None:
    for name, values in overrides.items():
        found = _named(prompt, name)
        if not found:
            raise ValueError(f"An override names '{name}', but no active node is called so.")
        for key in found:
            known = object_info[prompt[key]["class_type"]]["input"]
            for field, value in values.items():
                if field not in known.get("required", {}) | known.get("optional", {}):
                    raise ValueError(f"'{name}' has no input '{field}' to override.")
                prompt[key]["inputs"][field] = value


def _named(prompt: Prompt, name: str) -> list[str]:
    titled = [key for key, node in prompt.items() if node["_meta"]["title"] == name]
    return titled or [key for key, node in prompt.items() if node["class_type"] == name]


def changed(prompt: dict[str, Any], node: str, **inputs: Any) -> dict[str, Any]:
    """Return a copy of a prompt with other inputs at one node."""
    copied = {key: {**value, "inputs": dict(value["inputs"])} for key, value in prompt.items()}
    copied[node_id(copied, node)]["inputs"].update(inputs)
    return copied
