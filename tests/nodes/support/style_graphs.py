"""Prompt graphs with the pack's nodes, in the API format, and what their runs leave."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from comfy_graphs import PromptGraph, node, text_to_image
from comfy_server import ComfyServer, History
from models_dir import ModelsDir

# A training that takes a second and changes a lot; it redraws no face, which would take three.
TRAINING = {
    "prompt": "A painting of a person in S* style",
    "steps": 2,
    "learning_rate": 0.02,
    "style_weight": 0.8,
    "face_weight": 1.0,
    "seed": 0,
    "resolution": 64,
    "preview_every": 0,
    "rank": 8,
    "alignment": "staged",
    "precision": "auto",
    "gradient_checkpointing": "auto",
    "retrain": True,
}
ADAPTERS = {
    "strength": 1.0,
    "encoder_strength": 1.0,
    "middle_strength": 1.0,
    "decoder_strength": 1.0,
    "start_percent": 0.0,
    "end_percent": 1.0,
}


def training_graph(
    server: ComfyServer, models_dir: ModelsDir, checkpoint: str = "sd1", **inputs: Any
) -> PromptGraph:
    """Return a graph that trains a style and saves it.

    Node ids: checkpoint, vision, style_image, face_image, train, save_style.
    """
    for seed, name in enumerate(("style_image", "face_image")):
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        server.add_input(f"{name}.png", pixels.repeat(8, axis=0).repeat(8, axis=1))
    links = {
        "model": ["checkpoint", 0],
        "clip": ["checkpoint", 1],
        "vae": ["checkpoint", 2],
        "clip_vision": ["vision", 0],
        "style_image": ["style_image", 0],
        "face_image": ["face_image", 0],
    }
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=models_dir.name(checkpoint)),
        "vision": node("CLIPVisionLoader", clip_name=models_dir.name("clip_vision")),
        "style_image": node("LoadImage", image="style_image.png"),
        "face_image": node("LoadImage", image="face_image.png"),
        "train": node("ACFunTrainStyle", **links | TRAINING | inputs),
        "save_style": node("ACFunSaveStyle", style=["train", 0], filename_prefix="test"),
    }


def styled_graph(
    models_dir: ModelsDir, style_file: str, checkpoint: str = "sd1", **adapters: Any
) -> PromptGraph:
    """Return the default graph, but with a saved style applied to prompt and model.

    Node ids: those of `text_to_image`, of which positive is Apply AFun Embedding, and style and
    adapters.
    """
    text = "a woman in S* style"
    graph = text_to_image(models_dir.name(checkpoint), prompt=text)
    graph["style"] = node("ACFunLoadStyle", style_file=style_file)
    positive = {"style": ["style", 0], "clip": ["checkpoint", 1], "text": text, "strength": 1.0}
    graph["positive"] = node("ACFunApplyEmbedding", **positive)
    model = {"model": ["checkpoint", 0], "style": ["style", 0]}
    graph["adapters"] = node("ACFunApplyAdapters", **model | ADAPTERS | adapters)
    graph["sampler"]["inputs"]["model"] = ["adapters", 0]
    return graph


def with_branch(graph: PromptGraph, name: str, other: PromptGraph) -> PromptGraph:
    """Return a graph with another one beside it, whose node ids get a name in front.

    Both share the checkpoint, and so the U-Net.
    """

    def renamed(value: Any) -> Any:
        is_link = isinstance(value, list) and value[0] != "checkpoint"
        return [f"{name}_{value[0]}", value[1]] if is_link else value

    branch = {
        f"{name}_{node_id}": node(
            content["class_type"],
            **{key: renamed(value) for key, value in content["inputs"].items()},
        )
        for node_id, content in other.items()
        if node_id != "checkpoint"
    }
    return {"checkpoint": graph["checkpoint"], **branch, **graph}


def saved_style(history: History) -> Path:
    """Return the file that the node save_style of a run has written, or an earlier run had."""
    text = history["outputs"]["save_style"]["text"][0]
    name, folder = re.match(r"Saved (?:before as )?(.+?)(?: \(.*?\))? in ([^,\n]+)", text).groups()
    return Path(folder) / name


def kept_training(folder: Path, text: str) -> Path:
    """Return the file below a folder that a training's last text says it is kept as."""
    kept = (folder / "training").glob("*.safetensors")
    return next(p for p in kept if f"#{p.stem[:8]}{p.stem[16:]} (press R" in text)
