"""GPU memory of a training run, counted on a simulated GPU.

    python -m evaluation.performance.memory

Full-size SD1.5 at 512 and SDXL at 1024 are trained by the product's code for two steps, the first
of which updates the pseudo-word, on a GPU that computes shapes only. Each ComfyUI runs in a process
of its own: ``$COMFYUI_PATH`` or ``~/comfy/ComfyUI``, and ``$COMFYUI_OLD_PATH`` or
``~/comfy/ComfyUI-0.3.64`` if it exists. The table goes to ``evaluation/results/memory.json``.

What tensors occupy is counted, weights included; workspaces of kernels, the driver's own memory and
what an allocator wastes come on top.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..comfyui_host import COMFYUI, OLD_COMFYUI, import_pack, is_installed, load, start

RESULTS = Path(__file__).resolve().parents[1] / "results" / "memory.json"
GIB = 2**30
NEWEST = "0.33.0"
VERSIONS = {NEWEST: COMFYUI, "0.3.64": OLD_COMFYUI}
# Free memory of a GPU of 4 and of 8 GB that also shows a desktop.
SMALL_GPUS = {"sd1": 3.4, "sdxl": 7.2}
GOALS = {"sd1": 4.0, "sdxl": 8.0}
log = logging.getLogger("benchmark")


def main() -> None:
    """Count in each ComfyUI, write the table and log whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--family", choices=list(GOALS), action="append")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.case:
        sys.stdout.write(json.dumps(count(json.loads(options.case))) + "\n")
        return
    rows = []
    for version, folder in VERSIONS.items():
        for family in (options.family or GOALS) if is_installed(folder) else ():
            for case in cases(version, family):
                rows.append({"comfyui": version, **case, **run_case(folder, case)})
                log.info(rows[-1])
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    for family, goal in GOALS.items():
        small = [row for row in rows if row["family"] == family and "total" in row]
        missed = [row["peak"] for row in small if row["peak"] > goal]
        log.info("%s in %g GB: %s", family, goal, f"missed, {missed}" if missed else "reached")


def cases(version: str, family: str) -> list[dict[str, Any]]:
    """Return what is trained: dtypes, checkpointing, and a small GPU or weights in system RAM.

    On the old ComfyUI only fp16: it differs in how it loads models, not in what it computes.
    """
    dtypes = ("fp16", "bf16", "fp8", "fp32") if version == NEWEST else ("fp16",)
    pairs = [(weights, on) for weights in dtypes for on in ("off", "on")]
    table: list[dict[str, Any]] = [{"weights": w, "checkpointing": on} for w, on in pairs]
    small = {"weights": "fp16", "checkpointing": "on"}
    table += [small | {"total": SMALL_GPUS[family] * GIB}, small | {"state": "NO_VRAM"}]
    return [{"family": family, **case} for case in table]


def run_case(comfyui: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Return the result of :func:`count` in a process with that ComfyUI."""
    command = [sys.executable, "-m", "evaluation.performance.memory", "--case", json.dumps(case)]
    environment = os.environ | {"COMFYUI_PATH": str(comfyui)}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return result


def count(case: dict[str, Any]) -> dict[str, Any]:
    """Train on the simulated GPU; return GiB, and the waits and copies of a plain step."""
    start(cpu=True, use_pytorch_cross_attention=True)
    training = load("simulated_training")
    import_pack()
    settings = training.Settings(**case)
    with training.simulation(settings) as (gpu, sockets):
        figures = training.train(settings, gpu, sockets)
    plain = figures.steps[-1]
    return {
        "weights on the card": round(figures.weights / GIB, 2),
        "saved": round(figures.saved / GIB, 2),
        "peak": round(figures.peak / GIB, 2),
        "plain step, peak": round(plain.peak / GIB, 2),
        "plain step, waits": plain.syncs,
        "plain step, copies onto the card": plain.onto,
        "left gradients": len(figures.gradients),
    }


if __name__ == "__main__":
    main()
