"""A ComfyUI server with its defaults, as a user has it: dynamic VRAM, its allocator, /prompt."""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from .card import Card
from .models import COMFYUI, KINDS, Scale
from .rows import Result, Row, run

ROOT = Path(__file__).resolve().parents[3]
STEPS = 12
MANY_STEPS = 100_000
PAGE = "<html></html>"


class Server:
    """A running server with a full-size SD1.5 in its models folder, and what is asked of it."""

    def __init__(self, scale: Scale, folder: Path) -> None:
        from comfy_server import ComfyServer
        from models_dir import ModelsDir

        self.card = Card()
        self.patience = 60 if self.card.is_there else 600
        self.side = scale.side("sd1")
        self.models = ModelsDir(folder / "models")
        _write_models(scale, self.models, "cuda" if self.card.is_there else "cpu")
        page = folder / "page"
        page.mkdir()
        (page / "index.html").write_text(PAGE)
        arguments = ("--front-end-root", str(page), "--preview-method", "latent2rgb")
        cpu = not self.card.is_there
        self.server = ComfyServer(COMFYUI, self.models.root, ROOT, arguments=arguments, cpu=cpu)

    def begin(self) -> Result:
        """Start the server; return what its log says of the card and of loading."""
        began = time.time()
        self.server._start()
        signs = ("Device:", "DynamicVRAM", "vram state", "ComfyUI version", "pytorch version")
        lines = [line for line in self.server.log().split("\n") if any(s in line for s in signs)]
        stats = self.server.get_json("/system_stats")
        return {
            "started": True,
            "seconds to start": round(time.time() - began, 1),
            "its log": [line.strip() for line in lines],
            "devices": [device["name"] for device in stats["devices"]],
        }

    def untouched(self) -> Result:
        """Draw plainly, train, save, draw styled, draw plainly again, all by /prompt."""
        from style_graphs import saved_style, styled_graph

        before = self._plain()
        began = time.time()
        history = self.server.run(self._training(steps=STEPS), timeout=self.patience)
        seconds = round(time.time() - began, 1)
        trained = self._plain()
        path = saved_style(history)
        name = str(path.relative_to(self.server.styles_dir))
        graph = _sized(styled_graph(self.models, name), self.side)
        styled = self.server.images(self.server.run(graph, timeout=self.patience), "save")[0]
        after = self._plain()
        return {
            "trained and saved": path.exists(),
            "seconds to load and train": seconds,
            "the node said": self.server.messages(history).texts("train")[-1:],
            "after training": bool(np.array_equal(before, trained)),
            "after Apply": bool(np.array_equal(before, after)),
            "the style changes the picture": not np.array_equal(before, styled),
        }

    def cancelled(self) -> Result:
        """Interrupt a training as the page does, and go on from what it kept."""
        from comfy_graphs import node
        from comfy_server import failure_text
        from style_graphs import kept_training

        graph = self._training(steps=MANY_STEPS, seed=20)
        prompt_id = self.server.queue(graph)
        self.server.wait_for_message(prompt_id, "progress", self.patience)
        self.server.interrupt()
        history = self.server.wait(prompt_id, timeout=self.patience)
        said = self.server.messages(history).texts("train")[-1]
        path = kept_training(self.server.styles_dir, said)
        steps = self._steps(path)
        graph["train"]["inputs"]["steps"] = steps + 2
        graph["load"] = node("ACFunLoadStyle", style_file=f"training/{path.name}")
        graph["train"]["inputs"]["resume_from"] = ["load", 0]
        resumed = self.server.messages(self.server.run(graph, timeout=self.patience)).texts(
            "train"
        )[-1]
        return {
            "cancelled": failure_text(history) == "Interrupted in node train (ACFunTrainStyle).",
            "kept": 1 <= steps < MANY_STEPS,
            "the node said": [said, resumed],
            "resumed to its end": resumed.startswith(f"Trained {steps + 2} steps."),
        }

    def end(self) -> Result:
        """Stop the server; return what its log says went wrong."""
        log = self.server.log()
        self.server.close()
        bad = [line for line in log.split("\n") if "Traceback" in line or "CUDA error" in line]
        return {"no traceback in its log": not bad, "its log ends": log[-600:]}

    def _plain(self) -> np.ndarray[Any, Any]:
        from comfy_graphs import text_to_image

        # Computed anew, not taken from the cache.
        self.server.forget()
        graph = text_to_image(self.models.name("sd1"), size=self.side, steps=4)
        return self.server.images(self.server.run(graph, timeout=self.patience), "save")[0]

    def _training(self, **inputs: Any) -> dict[str, Any]:
        from comfy_graphs import node
        from style_graphs import training_graph

        options = {"resolution": self.side, "preview_every": 0, **inputs}
        graph = training_graph(self.server, self.models, **options)
        # Drawn by nodes, because reading a picture's file needs PyAV, which may not be there.
        for seed, name in enumerate(("style_image", "face_image")):
            size = {"width": self.side, "height": self.side, "batch_size": 1}
            graph[f"grey_{seed}"] = node("EmptyImage", **size, color=0x808080)
            grey = [f"grey_{seed}", 0]
            graph[name] = node("ImageAddNoise", image=grey, seed=seed, strength=0.5)
        return graph

    def _steps(self, path: Path) -> int:
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return int(json.loads(header["__metadata__"]["acfun_style"])["steps"])


def measure(small: bool, results: Path, until: float) -> None:
    """Run the rows of the server."""
    sys.path[:0] = [str(COMFYUI), str(ROOT / "tests" / "nodes" / "support")]
    with tempfile.TemporaryDirectory(prefix="on-a-gpu-") as folder:
        import comfy.cli_args
        import torch

        comfy.cli_args.args.cpu = not torch.cuda.is_available()
        server = Server(Scale(small), Path(folder))
        drawn = ("trained and saved", "after training", "after Apply")
        rows = [
            Row("a server with its defaults", 60, server.begin, ("started",)),
            Row(
                "server: the plain picture stays",
                60,
                server.untouched,
                (*drawn, "the style changes the picture"),
            ),
            Row(
                "server: cancelled, then resumed",
                40,
                server.cancelled,
                ("cancelled", "kept", "resumed to its end"),
            ),
            Row("server: its log", 25, server.end, ("no traceback in its log",)),
        ]
        try:
            run("server", rows, server.card, results, until)
        finally:
            server.server.close()


def _write_models(scale: Scale, models: Any, device: str) -> None:
    import simulated_training
    import tiny_models
    from models_dir import TINY_MODELS
    from safetensors.torch import save_file

    if scale.is_small:
        for key in ("sd1", "clip_vision"):
            models.path(key)
        return
    unet = simulated_training.FULL_UNETS["sd1"]
    states = {
        "sd1": tiny_models.checkpoint_state(KINDS["sd1"], unet, device=device),
        "clip_vision": tiny_models.clip_vision_state(device=device),
    }
    for key, state in states.items():
        path = models.root / TINY_MODELS[key].folder / TINY_MODELS[key].file_name
        path.parent.mkdir(parents=True)
        save_file(state, path)


def _sized(graph: dict[str, Any], side: int) -> dict[str, Any]:
    graph["latent"]["inputs"] |= {"width": side, "height": side}
    graph["sampler"]["inputs"]["steps"] = 4
    return graph
