"""Long use of one ComfyUI server: unstyled images stay the same, memory and hooks do not grow."""

import json
import random
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..comfyui_host import load, new_server, start

PLAIN_EVERY = 10
WARM_UP = 0.2  # Share of the run in which caches may still fill.
MAX_GROWTH_MB = 150
PROBE = """
import json

class SoakProbe:
    INPUT_TYPES = classmethod(lambda cls: {"required": {"model": ("MODEL",)}})
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "look", "soak", True
    IS_CHANGED = classmethod(lambda cls, **inputs: float("nan"))

    def look(self, model):
        parts = list(model.model.modules())
        hooks = sum(len(p._forward_hooks) + len(p._forward_pre_hooks) for p in parts)
        hooks += sum(len(p._backward_hooks) + len(p._backward_pre_hooks) for p in parts)
        grads = sum(p.grad is not None for p in model.model.parameters())
        return {"ui": {"text": [json.dumps([hooks, grads])]}}

NODE_CLASS_MAPPINGS = {"SoakProbe": SoakProbe}
"""


def soak(trainings: int, samplings: int, seed: int = 0) -> tuple[dict[str, Any], list[str]]:
    """Train and sample in turns in changing graphs; return the figures and what was wrong.

    Ctrl+C ends it with the figures so far.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        start(cpu=True)  # The tiny models are written with ComfyUI's own layers.
        models = load("models_dir").ModelsDir(Path(name))
        server = new_server(models.root)
        (server.base / "custom_nodes" / "soak_probe.py").write_text(PROBE)
        with server, suppress(KeyboardInterrupt):
            use = _Use(server, models, random.Random(seed))
            total = trainings + samplings
            for number in range(total):
                # Trainings are spread over the run, and the first of all is one.
                if number * trainings // total != (number - 1) * trainings // total:
                    use.train()
                else:
                    use.sample()
    megabytes = use.memory[int(len(use.memory) * WARM_UP)], use.memory[-1]
    figures = {
        "trainings": use.trained,
        "samplings": use.sampled,
        "plain pictures, all bit-identical": use.plain_images,
        "server's memory after the warm-up, MB": round(megabytes[0]),
        "server's memory at the end, MB": round(megabytes[1]),
        "hooks and gradients on the shared model, at most": max(use.left),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    if megabytes[1] - megabytes[0] > MAX_GROWTH_MB:
        use.wrong.append(f"memory grew by {megabytes[1] - megabytes[0]:.0f} MB")
    return figures, use.wrong


class _Use:
    """One server in use: what was done, and what was seen."""

    def __init__(self, server: Any, models: Any, rng: random.Random) -> None:
        self.server, self.models, self.rng = server, models, rng
        self.graphs = load("style_graphs")
        self.trained = self.sampled = self.plain_images = 0
        self.styles: list[str] = []
        self.memory: list[float] = []
        self.left: list[int] = [0]
        self.wrong: list[str] = []
        self.first = self._plain()

    def train(self) -> None:
        """Train and save a style; every third time stop it half-way or go on from another."""
        rng = self.rng
        options: dict[str, Any] = {"alignment": rng.choice(["drawn", "staged", "paired", "blend"])}
        options["gradient_checkpointing"] = rng.choice(["auto", "on"])
        options["preview_every"] = rng.choice([0, 0, 2])
        graph = self.graphs.training_graph(self.server, self.models, seed=self.trained, **options)
        if self.styles and rng.random() < 0.3:
            graph["load"] = load("comfy_graphs").node(
                "ACFunLoadStyle", style_file=rng.choice(self.styles)
            )
            graph["train"]["inputs"]["resume_from"] = ["load", 0]
        history = self._run(graph)
        self.styles.append(self.graphs.saved_style(history).name)
        self.trained += 1

    def sample(self) -> None:
        """Sample with a style, and every so often without one."""
        self.sampled += 1
        if self.sampled % PLAIN_EVERY == 0:
            image = self._plain()
            self.plain_images += 1
            if not np.array_equal(image, self.first):
                self.wrong.append(f"plain image {self.plain_images} differs")
            return
        rng = self.rng
        strengths = {"strength": rng.choice([0.0, 0.5, 1.0]), "end_percent": rng.choice([0.6, 1.0])}
        graph = self.graphs.styled_graph(self.models, rng.choice(self.styles), **strengths)
        graph["sampler"]["inputs"]["seed"] = rng.getrandbits(32)
        if rng.random() < 0.3:
            graph["lora"] = load("comfy_graphs").node(
                "LoraLoaderModelOnly",
                model=["checkpoint", 0],
                lora_name=self.models.name("lora"),
                strength_model=1.0,
            )
            graph["adapters"]["inputs"]["model"] = ["lora", 0]
        self._run(graph)

    def _plain(self) -> np.ndarray:
        graph = load("comfy_graphs").text_to_image(self.models.name("sd1"), seed=4)
        history = self._run(graph)
        return self.server.images(history, "save")[0]

    def _run(self, graph: dict[str, Any]) -> dict[str, Any]:
        graph["probe"] = load("comfy_graphs").node("SoakProbe", model=["checkpoint", 0])
        history: dict[str, Any] = self.server.run(graph, timeout=3600)
        hooks, grads = json.loads(history["outputs"]["probe"]["text"][0])
        self.left.append(hooks + grads)
        if hooks or grads:
            self.wrong.append(f"{hooks} hooks and {grads} gradients on the shared model")
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        kilobytes = next(line.split()[1] for line in status.splitlines() if "VmRSS" in line)
        self.memory.append(int(kilobytes) / 1024)
        return history
