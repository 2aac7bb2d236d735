"""Prompts that run on the small prior instead of a checkpoint, and what makes its server."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import torch
from comfy_graphs import PromptGraph, node
from comfy_process import ComfyProcess
from safetensors.torch import load_file, save_file
from torch import Tensor

EXAMPLES = Path(__file__).resolve().parents[3] / "web" / "examples"
SIDE = 64
# What the prior needs; a checkpoint's own values stand in the workflows.
SAMPLING = {"steps": 20, "cfg": 2.0}
TRAINING = {
    "preset": "custom: the numbers on this node",
    "learning_rate": 3e-3,
    "resolution": SIDE,
}
PIXELS = 512 // SIDE  # Of the workflows' pictures, for one of the prior's.
SHOWN_MEGAPIXELS = 384**2 / 2**20
RANK = 4
# Which output of the small loader stands for the first output of a stock loader.
LOADERS = {"UNETLoader": 0, "CLIPLoader": 1, "VAELoader": 2}
LOADERS |= {"CheckpointLoaderSimple": 0, "CLIPVisionLoader": 3}
# Nodes for which the prior has no model, and what passes through them, by output.
PASSED = {
    "ControlNetApplyAdvanced": ("positive", "negative"),
    "ImageUpscaleWithModel": ("image",),
    "ControlNetLoader": (),
    "UpscaleModelLoader": (),
}
SIZED = ("EmptyLatentImage", "EmptySD3LatentImage", "EmptyFlux2LatentImage", "ACFunStyleSheet")


def link_small_prior(server: ComfyProcess) -> None:
    """Put Load Small Prior into a server's custom nodes; before it starts."""
    server.add_pack(Path(__file__).resolve().parent / "small_prior_node")


def put_examples(server: ComfyProcess) -> None:
    """Put the pack's example images into a server's input folder."""
    for path in EXAMPLES.iterdir():
        shutil.copy(path, server.input_dir)


def with_small_prior(prompt: PromptGraph) -> PromptGraph:
    """Return a prompt whose models come from the prior, with the numbers that it needs."""
    loader = node("LoadSmallPrior") | {"_meta": {"title": "Load Small Prior"}}
    return with_small_models(prompt, loader)


def with_small_models(prompt: PromptGraph, loader: dict[str, Any]) -> PromptGraph:
    """Return a prompt whose models come from one small loader, with the numbers they need."""
    changed = copy.deepcopy(prompt)
    replaced: dict[tuple[str, int], Any] = {}
    for key, content in prompt.items():
        kind, inputs = content["class_type"], content["inputs"]
        if kind in LOADERS:
            replaced |= {(key, n): ["small_models", n + LOADERS[kind]] for n in range(3)}
        for n, name in enumerate(PASSED.get(kind, ())):
            replaced[key, n] = inputs[name]
        if kind in LOADERS or kind in PASSED:
            del changed[key]
    for content in changed.values():
        _set_numbers(content)
        for name, value in content["inputs"].items():
            while isinstance(value, list) and tuple(value) in replaced:
                value = replaced[tuple(value)]
            content["inputs"][name] = value
    return {"small_models": loader, **changed}


def enlarged(prompt: PromptGraph) -> PromptGraph:
    """Return a prompt whose pictures are large enough to be looked at in the page."""
    changed = copy.deepcopy(prompt)
    for key, content in prompt.items():
        if content["class_type"] in ("SaveImage", "PreviewImage"):
            scale = node("ImageScaleToTotalPixels", image=content["inputs"]["images"])
            scale |= {"_meta": {"title": "Enlarged"}}
            scale["inputs"] |= {"upscale_method": "lanczos", "megapixels": SHOWN_MEGAPIXELS}
            scale["inputs"] |= {"resolution_steps": 1}
            changed[f"{key}_large"] = scale
            changed[key]["inputs"]["images"] = [f"{key}_large", 0]
    return changed


def _set_numbers(content: dict[str, Any]) -> None:
    inputs, kind = content["inputs"], content["class_type"]
    if kind == "ACFunTrainStyle":
        inputs |= TRAINING
    if kind in ("KSampler", "ACFunStyleSheet"):
        inputs |= SAMPLING
    if kind == "CLIPTextEncode" and content.get("_meta", {}).get("title") == "Negative prompt":
        inputs["text"] = ""  # The prior knows none of its words.
    if kind in SIZED:
        sides = {name: inputs[name] for name in ("width", "height")}
        inputs |= {
            name: max(SIDE, side // PIXELS) for name, side in sides.items() if isinstance(side, int)
        }
    if kind == "ImageScaleToTotalPixels":  # It cannot make pictures as small as the prior's.
        content["class_type"] = "ImageScale"
        content["inputs"] = {"image": inputs["image"], "upscale_method": "lanczos"}
        content["inputs"] |= {"width": SIDE, "height": SIDE, "crop": "disabled"}


def write_small_prior_lora(path: Path, folder: Path, size: float = 0.02) -> None:
    """Write a LoRA in kohya's format of random weights on the prior's cross-attention."""
    generator = torch.Generator().manual_seed(0)
    layout: dict[str, Tensor] = {}
    for name, weight in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        if name.endswith(("attn2.to_v.weight", "attn2.to_k.weight")):
            key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            up = torch.randn(weight.shape[0], RANK, generator=generator)
            layout[f"{key}.lora_down.weight"] = torch.randn(
                RANK, weight.shape[1], generator=generator
            )
            layout[f"{key}.lora_up.weight"] = size * up
            layout[f"{key}.alpha"] = torch.tensor(float(RANK))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(layout, path)
