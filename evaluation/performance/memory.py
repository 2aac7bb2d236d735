"""Memory of a training on a card, counted on a simulated one.

    python -m evaluation.performance.memory

Full-size SD1.5 at 512 and SDXL at 1024 are trained by the real code for two steps, the first of
which moves the pseudo-word, on a card that computes shapes only (``simulated_card.py``).
Each ComfyUI runs in a process of its own: ``$COMFYUI_PATH`` or ``~/comfy/ComfyUI``, and
``$COMFYUI_OLD_PATH`` or ``~/comfy/ComfyUI-0.3.64`` if it is there. The table goes to
``evaluation/results/memory.json``.

What is counted is what tensors occupy, weights included; workspaces of kernels, the driver's own
memory and what an allocator wastes come on top.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results" / "memory.json"
GIB = 2**30
NEWEST = "0.33.0"
# Free memory of a card of 4 and of 8 GB beside a desktop.
SMALL_CARDS = {"sd1": 3.4, "sdxl": 7.2}
GOALS = {"sd1": 4.0, "sdxl": 8.0}
log = logging.getLogger("benchmark")


def cases(version: str, family: str) -> list[dict[str, Any]]:
    """Return what is trained: dtypes, checkpointing, and weights on the card or off it.

    An old ComfyUI is asked about fp16 alone: it differs in how it loads, not in what it computes.
    """
    dtypes = ("fp16", "bf16", "fp8", "fp32") if version == NEWEST else ("fp16",)
    pairs = [(weights, on) for weights in dtypes for on in ("off", "on")]
    table = [{"weights": w, "checkpointing": on} for w, on in pairs]
    small = {"weights": "fp16", "checkpointing": "on"}
    table += [small | {"total": SMALL_CARDS[family] * GIB}, small | {"state": "NO_VRAM"}]
    return [{"family": family, **case} for case in table]


def main() -> None:
    """Count in each ComfyUI and write the table; say no if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--family", choices=list(GOALS), action="append")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.case:
        sys.stdout.write(json.dumps(count(json.loads(options.case))) + "\n")
        return
    rows = []
    for version, folder in comfyui_folders().items():
        for family in options.family or GOALS:
            for case in cases(version, family):
                rows.append({"comfyui": version, **case, **in_own_process(folder, case)})
                log.info(rows[-1])
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    for family, goal in GOALS.items():
        small = [row for row in rows if row["family"] == family and "total" in row]
        missed = [row["peak"] for row in small if row["peak"] > goal]
        log.info("%s in %g GB: %s", family, goal, f"missed, {missed}" if missed else "reached")


def comfyui_folders() -> dict[str, Path]:
    """Return the folder of each ComfyUI that is there."""
    places = {
        NEWEST: os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI"),
        "0.3.64": os.environ.get("COMFYUI_OLD_PATH", "~/comfy/ComfyUI-0.3.64"),
    }
    folders = {version: Path(place).expanduser() for version, place in places.items()}
    return {version: folder for version, folder in folders.items() if folder.is_dir()}


def in_own_process(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Return :func:`count` of a process with that ComfyUI."""
    command = [sys.executable, "-m", "evaluation.performance.memory", "--case", json.dumps(case)]
    environment = os.environ | {"COMFYUI_PATH": str(folder)}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(output.stdout.splitlines()[-1])


def count(case: dict[str, Any]) -> dict[str, Any]:
    """Train on the simulated card; return GiB, and host waits and copies of a plain step."""
    sys.path[:0] = [os.environ["COMFYUI_PATH"]]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    comfy.cli_args.args.use_pytorch_cross_attention = True
    import utils.install_util  # noqa: F401  (before a test module of that name can hide it)

    sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "tests" / "nodes" / "support"))
    import simulated_training

    simulated_training.import_pack()
    settings = simulated_training.Settings(**case)
    with simulated_training.simulation(settings) as (card, sockets):
        figures = simulated_training.train(settings, card, sockets)
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
