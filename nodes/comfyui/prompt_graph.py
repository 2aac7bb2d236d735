"""What a prompt in the API format tells of the nodes around one of ours."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Prompt = Mapping[str, Mapping[str, Any]]

_TRAIN, _SAVE = "ACFunTrainStyle", "ACFunSaveStyle"
_PREVIEWS = 2  # The output of a training.
_IMAGE_FILE = re.compile(r"([^\n]+)\.(png|jpe?g|webp|bmp|gif|tiff?|avif)( \[\w+\])?", re.IGNORECASE)
_LONGEST = 40


def drop_preview_links(request: dict[str, Any]) -> dict[str, Any]:
    """Take off each Save node the link to the previews of the training that it saves (a hook).

    It finds the last of them by itself. ComfyUI runs no node that is linked to what is not there,
    so a training without previews would leave its style unsaved.
    """
    prompt = request.get("prompt")
    nodes = prompt if isinstance(prompt, dict) else {}
    for node in nodes.values():
        inputs = node.get("inputs", {}) if isinstance(node, dict) else {}
        source = _source(inputs.get("preview"))
        is_same = source is not None and source == _source(inputs.get("style"))
        if is_same and node.get("class_type") == _SAVE and inputs["preview"][1] == _PREVIEWS:
            del inputs["preview"]
    return request


def shows_its_training(prompt: Prompt, node_id: str) -> bool:
    """Tell whether a Save node's preview is made of those of the training whose style it saves."""
    training = _training_behind(prompt, node_id)
    link = prompt.get(node_id, {}).get("inputs", {}).get("preview")
    behind = (value for inputs in _inputs_behind(prompt, link) for value in inputs.values())
    return bool(training) and [training, _PREVIEWS] in [link, *behind]


def passes_previews(prompt: Prompt, node_id: str) -> bool:
    """Tell whether a node of the prompt needs the previews of a training; a Save node does not."""
    takers = (node for node in prompt.values() if node["class_type"] != _SAVE)
    return any([node_id, _PREVIEWS] in node["inputs"].values() for node in takers)


def style_image_name(prompt: Prompt, node_id: str) -> str:
    """Return what the style picture's file is called that a Save node's style is trained on.

    At most 40 letters, without folder and ending; "" if no such file is known. A file that is a
    face photo as well is none.

    Args:
        prompt: of the run.
        node_id: the Save node.
    """
    training = _training_behind(prompt, node_id)
    if not training:
        return ""
    inputs = prompt[training]["inputs"]
    faces = set(_image_files(prompt, inputs.get("face_image")))
    found = _image_files(prompt, inputs.get("style_image"))
    stems = (re.split(r"[/\\]", name)[-1] for name in found if name not in faces)
    name: str = re.sub(r"[^\w .()-]+", "_", next(stems, ""))
    return name[:_LONGEST].strip(" .")


def _training_behind(prompt: Prompt, node_id: str) -> str:
    """Return the training whose style a Save node saves, "" if it is another node's."""
    while prompt.get(node_id, {}).get("class_type") == _SAVE:
        node_id = _source(prompt[node_id]["inputs"].get("style")) or ""
    return node_id if prompt.get(node_id, {}).get("class_type") == _TRAIN else ""


def _image_files(prompt: Prompt, link: Any) -> Iterator[str]:
    """Yield the image files, without their endings, that a link's value is made of."""
    for inputs in _inputs_behind(prompt, link):
        for value in inputs.values():
            if isinstance(value, str) and (match := _IMAGE_FILE.fullmatch(value)):
                yield match[1]


def _inputs_behind(prompt: Prompt, link: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the inputs of the nodes that a link's value is made by, the nearest first."""
    waiting, seen = [_source(link)], set()
    while waiting:
        node_id = waiting.pop(0)
        if node_id is None or node_id in seen:
            continue
        seen.add(node_id)
        inputs = prompt.get(node_id, {}).get("inputs", {})
        yield inputs
        waiting.extend(map(_source, inputs.values()))


def _source(link: Any) -> str | None:
    """Return the node that an input is linked to, None if it is no link."""
    is_link = isinstance(link, list) and len(link) == 2 and isinstance(link[0], str)
    return link[0] if is_link else None
