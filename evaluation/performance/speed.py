"""Speed and memory of training and applying a style, as ratios to what a user knows.

    python -m evaluation.performance.speed [--full]

It needs ComfyUI at ``$COMFYUI_PATH`` or ``~/comfy/ComfyUI`` and a machine with nothing else to do.
Each figure is the median ratio of pairs of measurements in one run, of which now the one and now
the other goes first, on the small SD1-layout model of the tests at 256 px; ``--full`` adds a
full-size SD1.5 with random weights (8 GB of memory). The table goes to
``evaluation/results/speed.json`` together with the machine it was measured on.
"""

import argparse
import json
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evaluation import comfyui_host

RESULTS = Path(__file__).resolve().parents[1] / "results" / "speed.json"
ROUNDS = 5
SAMPLING_ROUNDS = 16
LIMITS = {
    "training step / forward pass of the pair": 2.15,
    "core Train LoRA step / our step": -2.5,
    "sampling with both Apply nodes / plain": 1.02,
    "applying a loaded style, ms": 20,
    "previews / the rest of a training, default settings": 0.1,
    "memory that training adds, checkpointing on / off": 0.6,
    "style file of SD1.5, MB": 8,
    "style file of SDXL, MB": 20,
}
log = logging.getLogger("benchmark")


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--full", action="store_true", help="also a full-size SD1.5")
    parser.add_argument("--memory", choices=["on", "off"], help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.memory:
        sys.stdout.write(f"{added_memory(options.checkpoint, options.memory)}\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        results = {"small": measure(comfyui_host.write_small(Path(folder)))}
        if options.full:
            results["full-size SD1.5"] = measure(comfyui_host.write_full(Path(folder)))
    results["files"] = {
        "style file of SD1.5, MB": comfyui_host.style_megabytes("sd1"),
        "style file of SDXL, MB": comfyui_host.style_megabytes("sdxl"),
    }
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")
    log.info("%s\n%s", machine, table(results))


def table(results: dict[str, dict[str, float]]) -> str:
    """Return the results with their limits, one a line; a negative limit is a lower bound."""
    lines = []
    for model, figures in results.items():
        for name, value in figures.items():
            limit = LIMITS.get(name)
            bound = "" if limit is None else f"  ({'>=' if limit < 0 else '<='} {abs(limit):g})"
            lines.append(f"{model:16} {name:52} {value:8.2f}{bound}")
    return "\n".join(lines)


def measure(checkpoint: Path) -> dict[str, float]:
    """Measure one model."""
    loaded = comfyui_host.load(checkpoint)
    log.info("%s is loaded", checkpoint.name)
    figures = training_figures(loaded)
    log.info("training is measured")
    figures |= sampling_figures(loaded, checkpoint.parent)
    log.info("sampling is measured")
    memory = {setting: memory_in_own_process(checkpoint, setting) for setting in ("on", "off")}
    figures["memory that training adds, checkpointing on / off"] = memory["on"] / memory["off"]
    figures["memory that training adds, checkpointing off, MB"] = memory["off"]
    return figures


def training_figures(loaded: comfyui_host.Loaded) -> dict[str, float]:
    """Return our step against two plain forward passes and against core's LoRA step."""
    ratio, step = against(
        lambda: loaded.step_seconds(steps=8),
        lambda: seconds(loaded.forward_pair, warm_up=1, calls=4),
        ROUNDS,
    )
    core = (loaded.core_seconds(5) - loaded.core_seconds(2)) / 3
    return {
        "training step / forward pass of the pair": ratio,
        "core Train LoRA step / our step": core / step,
        "training step, s": step,
        "previews / the rest of a training, default settings": comfyui_host.previews_share(
            loaded.preview_seconds(), step
        ),
    }


def sampling_figures(loaded: comfyui_host.Loaded, folder: Path) -> dict[str, float]:
    """Return sampling with both Apply nodes against plain, and what applying itself costs."""
    style_file = loaded.write_style(folder / "style.safetensors")
    apply = [seconds(lambda: loaded.apply_adapters(style_file)) for _ in range(ROUNDS)]
    embed = [seconds(loaded.embed_styled) - seconds(loaded.embed_plain) for _ in range(ROUNDS)]
    for warm_up in (loaded.sample_styled, loaded.sample_plain):
        warm_up()
    ratio, _ = against(
        lambda: seconds(loaded.sample_styled),
        lambda: seconds(loaded.sample_plain),
        SAMPLING_ROUNDS,
    )
    return {
        "sampling with both Apply nodes / plain": ratio,
        "applying a loaded style, ms": 1000 * statistics.median(apply),
        "fusing a prompt, beyond CLIP Text Encode, ms": 1000 * statistics.median(embed),
    }


def against(
    ours: Callable[[], float], known: Callable[[], float], rounds: int
) -> tuple[float, float]:
    """Return the median ratio of two times measured in pairs, and the median of the first."""
    pairs = []
    for turn in range(rounds):
        # What the machine's speed drifts by within a pair cancels when the order changes.
        if turn % 2:
            reference, own = known(), ours()
        else:
            own, reference = ours(), known()
        pairs.append((own, reference))
    ratio = statistics.median(own / reference for own, reference in pairs)
    return ratio, statistics.median(own for own, _ in pairs)


def seconds(call: Callable[[], Any], warm_up: int = 0, calls: int = 1) -> float:
    """Return the mean time of a call."""
    for _ in range(warm_up):
        call()
    comfyui_host.finish()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    comfyui_host.finish()
    return (time.perf_counter() - start) / calls


def memory_in_own_process(checkpoint: Path, checkpointing: str) -> float:
    """Return :func:`added_memory` of a fresh process."""
    command = [
        sys.executable,
        "-m",
        "evaluation.performance.speed",
        "--memory",
        checkpointing,
        "--checkpoint",
        str(checkpoint),
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.splitlines()[-1])


def added_memory(checkpoint: Path, checkpointing: str) -> float:
    """Return the peak resident memory of a training step above the rest before it, in MB."""
    loaded = comfyui_host.load(checkpoint)
    return loaded.peak_of_steps(checkpointing) / 2**20


if __name__ == "__main__":
    main()
