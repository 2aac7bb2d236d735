"""A ComfyUI server with its defaults, as a user has it: dynamic VRAM, its allocator, /prompt."""

import atexit
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from acfun_ops.style.style_file import load_style

from ...comfyui_host import load, new_server, start
from .device import Gpu
from .models import SIDES, SMALL_SIDE, random_states

Figures = dict[str, Any]
STEPS = 12
MANY_STEPS = 100_000
LOG_SIGNS = ("Device:", "DynamicVRAM", "vram state", "ComfyUI version", "pytorch version")


class Server:
    """A running server with a full-size SD1.5, or a small one, in its models folder."""

    def __init__(self, is_small: bool) -> None:
        self.gpu = gpu = Gpu()
        start(cpu=not gpu.is_there)
        self.folder = tempfile.TemporaryDirectory(prefix="on-a-gpu-")
        self.timeout = 60 if gpu.is_there else 600
        self.side = SMALL_SIDE if is_small else SIDES["sd1"]
        self.graphs, self.node = load("style_graphs"), load("comfy_graphs").node
        self.models = load("models_dir").ModelsDir(Path(self.folder.name) / "models")
        _write_models(is_small, self.models)
        page = Path(self.folder.name) / "page"
        page.mkdir()
        (page / "index.html").write_text("<html></html>")
        arguments = ("--front-end-root", str(page), "--preview-method", "latent2rgb")
        self.server = new_server(self.models.root, arguments=arguments, cpu=not gpu.is_there)
        self.server.__enter__()
        atexit.register(self.server.close)  # Whatever becomes of the rows.

    def run(self, graph: dict[str, Any]) -> Any:
        """Run a prompt graph; return its history entry."""
        return self.server.run(graph, timeout=self.timeout)

    def sample_plain(self) -> Any:
        """Return an image without a style, computed anew and not taken from the cache."""
        self.server.forget()
        make = load("comfy_graphs").text_to_image
        graph = make(self.models.name("sd1"), size=self.side, steps=4)
        return self.server.images(self.run(graph), "save")[0]

    def training_graph(self, **inputs: Any) -> dict[str, Any]:
        """Return a graph that trains a style and saves it."""
        options = {"resolution": self.side, "alignment": "drawn", **inputs}
        graph: dict[str, Any] = self.graphs.training_graph(self.server, self.models, **options)
        # Made by nodes, because reading an image file needs PyAV, which may be missing.
        for seed, name in enumerate(("style_image", "face_image")):
            size = {"width": self.side, "height": self.side, "batch_size": 1}
            graph[f"grey_{seed}"] = self.node("EmptyImage", **size, color=0x808080)
            grey = [f"grey_{seed}", 0]
            graph[name] = self.node("ImageAddNoise", image=grey, seed=seed, strength=0.5)
        return graph


def compare_plain_images(server: Server) -> Figures:
    """Sample without a style, train, save, sample with it and again without, all by /prompt."""
    before = server.sample_plain()
    began = time.time()
    history = server.run(server.training_graph(steps=STEPS))
    seconds = round(time.time() - began, 1)
    trained = server.sample_plain()
    path = server.graphs.saved_style(history)
    name = str(path.relative_to(server.server.styles_dir))
    graph = server.graphs.styled_graph(server.models, name)
    graph["latent"]["inputs"] |= {"width": server.side, "height": server.side}
    graph["sampler"]["inputs"]["steps"] = 4
    styled = server.server.images(server.run(graph), "save")[0]
    after = server.sample_plain()
    return {
        "trained and saved": path.exists(),
        "seconds to load and train": seconds,
        "the node said": server.server.messages(history).texts("train")[-1:],
        "after training": bool(np.array_equal(before, trained)),
        "after Apply": bool(np.array_equal(before, after)),
        "the style changes the picture": not np.array_equal(before, styled),
    }


def cancel_and_resume(server: Server) -> Figures:
    """Interrupt a training run as the page does, and resume from what it saved."""
    graph = server.training_graph(steps=MANY_STEPS, seed=20)
    prompt_id = server.server.queue(graph)
    server.server.wait_for_message(prompt_id, "progress", server.timeout)
    server.server.interrupt()
    history = server.server.wait(prompt_id, timeout=server.timeout)
    text = server.server.messages(history).texts("train")[-1]
    path = server.graphs.kept_training(server.server.styles_dir, text)
    steps = load_style(path).facts.steps
    graph["train"]["inputs"] |= {"steps": steps + 2, "resume_from": ["load", 0]}
    graph["load"] = server.node("ACFunLoadStyle", style_file=f"training/{path.name}")
    resumed = server.server.messages(server.run(graph)).texts("train")[-1]
    failure = load("comfy_server").failure_text(history)
    return {
        "cancelled": failure == "Interrupted in node train (ACFunTrainStyle).",
        "kept": 1 <= steps < MANY_STEPS,
        "the node said": [text, resumed],
        "resumed to its end": resumed.startswith(f"Trained {steps + 2} steps."),
    }


def stop_server(server: Server) -> Figures:
    """Stop the server; return what its log says of the machine, and what went wrong."""
    log = server.server.log()
    server.server.close()
    lines = [line.strip() for line in log.split("\n")]
    return {
        "no traceback": not any("Traceback" in line or "CUDA error" in line for line in lines),
        "it said": [line for line in lines if any(sign in line for sign in LOG_SIGNS)],
        "it ends": log[-600:],
    }


def _write_models(is_small: bool, models: Any) -> None:
    if is_small:
        for key in ("sd1", "clip_vision"):
            models.path(key)
        return
    tiny = load("models_dir").TINY_MODELS
    for key, state in zip(("sd1", "clip_vision"), random_states("sd1", is_small), strict=True):
        path = models.root / tiny[key].folder / tiny[key].file_name
        path.parent.mkdir(parents=True)
        load("safetensors.torch").save_file(state, path)
