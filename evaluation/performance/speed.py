"""Speed of training and applying a style, as ratios to what a user knows.

    python -m evaluation.performance.speed [--full]

It needs ComfyUI at ``$COMFYUI_PATH`` or ``~/comfy/ComfyUI`` and a machine with nothing else to do.
Each ratio is the median over pairs of measurements in one run, in alternating order, on the small
SD1-layout model of the tests at 256 px; ``--full`` adds a full-size SD1.5 with random weights. The
table goes to ``evaluation/results/speed.json`` with the machine's name.
"""

import argparse
import json
import logging
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .gpu.models import Models
from .loaded import Loaded, finish

RESULTS = Path(__file__).resolve().parents[1] / "results" / "speed.json"
ROUNDS = 5
SAMPLING_ROUNDS = 16
# A negative limit is a lower bound.
LIMITS = {
    "training step / forward pass of the pair": 2.15,
    "core Train LoRA step / our step": -2.5,
    "sampling with both Apply nodes / plain": 1.02,
    "applying a loaded style, ms": 20,
    "previews / the rest of a training, default settings": 0.1,
}
log = logging.getLogger("benchmark")


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--full", action="store_true", help="also a full-size SD1.5")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results = {"small": measure(is_small=True)}
    if options.full:
        results["full-size SD1.5"] = measure(is_small=False)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    RESULTS.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")
    log.info("%s\n%s", machine, format_table(results))


def format_table(results: dict[str, dict[str, float]]) -> str:
    """Return the results with their limits, one per line."""
    lines = []
    for model, figures in results.items():
        for name, value in figures.items():
            limit = LIMITS.get(name)
            bound = "" if limit is None else f"  ({'>=' if limit < 0 else '<='} {abs(limit):g})"
            lines.append(f"{model:16} {name:52} {value:8.2f}{bound}")
    return "\n".join(lines)


def measure(is_small: bool) -> dict[str, float]:
    """Return all figures of one model."""
    loaded = Loaded(Models("sd1", is_small))
    return training_figures(loaded) | sampling_figures(loaded)


def training_figures(loaded: Loaded) -> dict[str, float]:
    """Return our step over two plain forward passes, and Train LoRA's step over ours."""
    ratio, step = time_ratio(
        lambda: loaded.step_seconds(steps=8),
        lambda: seconds(loaded.forward_pair, warm_up=1, calls=4),
        ROUNDS,
    )
    lora = (loaded.lora_seconds(5) - loaded.lora_seconds(2)) / 3
    previews = loaded.preview_ratio(loaded.preview_seconds(), step)
    return {
        "training step / forward pass of the pair": ratio,
        "core Train LoRA step / our step": lora / step,
        "training step, s": step,
        "previews / the rest of a training, default settings": previews,
    }


def sampling_figures(loaded: Loaded) -> dict[str, float]:
    """Return sampling with both Apply nodes over plain sampling, and what applying itself costs."""
    apply = [seconds(loaded.apply_adapters) for _ in range(ROUNDS)]
    embed = [seconds(loaded.embed_styled) - seconds(loaded.embed_plain) for _ in range(ROUNDS)]
    loaded.sample_styled()
    loaded.sample_plain()
    ratio, _ = time_ratio(
        lambda: seconds(loaded.sample_styled),
        lambda: seconds(loaded.sample_plain),
        SAMPLING_ROUNDS,
    )
    return {
        "sampling with both Apply nodes / plain": ratio,
        "applying a loaded style, ms": 1000 * statistics.median(apply),
        "fusing a prompt, beyond CLIP Text Encode, ms": 1000 * statistics.median(embed),
    }


def time_ratio(
    ours: Callable[[], float], known: Callable[[], float], rounds: int
) -> tuple[float, float]:
    """Return the median ratio of two times measured in pairs, and the median of the first."""
    pairs = []
    for turn in range(rounds):
        # The order changes, so that a drift of the machine's speed within a pair cancels.
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
    finish()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    finish()
    return (time.perf_counter() - start) / calls


if __name__ == "__main__":
    main()
