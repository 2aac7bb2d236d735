"""GPU memory of a training run, counted on a simulated GPU.

    python -m evaluation.performance.memory

Full-size SD1.5 at 512 and SDXL at 1024 are trained by the product's code for two steps, the first
of which updates the pseudo-word, on a GPU that computes shapes only; the face is redrawn in two
steps, because each needs the same. Each ComfyUI runs in a process of its own: ``$COMFYUI_PATH`` or
``~/comfy/ComfyUI``, and ``$COMFYUI_OLD_PATH`` or ``~/comfy/ComfyUI-0.3.64`` if it exists. The table
goes to ``evaluation/results/memory.json``.

What tensors occupy is counted, weights included; workspaces of kernels, the driver's own memory and
what an allocator wastes come on top.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
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
    parser.add_argument("--comfyui", choices=list(VERSIONS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    families = options.family or list(GOALS)
    if options.comfyui:
        count_all(options.comfyui, families)
        return
    rows = []
    for version, folder in VERSIONS.items():
        for row in rows_of(version, folder, families) if is_installed(folder) else ():
            rows.append(row)
            log.info(row)
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    for family, goal in GOALS.items():
        small = [row for row in rows if row["family"] == family and "total" in row]
        missed = [row["peak"] for row in small if row["peak"] > goal]
        log.info("%s in %g GB: %s", family, goal, f"missed, {missed}" if missed else "reached")


def cases(version: str, family: str) -> list[dict[str, Any]]:
    """Return what is trained: dtypes, checkpointing, and a small GPU or weights in system RAM.

    bf16 takes what fp16 takes. The old ComfyUI differs in how it loads models alone.
    """
    dtypes = ("fp16", "fp8", "fp32") if version == NEWEST else ()
    table: list[dict[str, Any]] = [
        {"weights": weights, "checkpointing": on} for weights in dtypes for on in ("off", "on")
    ]
    small = {"weights": "fp16", "checkpointing": "on"}
    table += [small | {"total": SMALL_GPUS[family] * GIB}, small | {"state": "NO_VRAM"}]
    return [{"family": family, **case} for case in table]


def rows_of(version: str, comfyui: Path, families: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield what :func:`count_all` prints in a process with that ComfyUI."""
    command = [sys.executable, "-m", "evaluation.performance.memory", "--comfyui", version]
    command += [part for family in families for part in ("--family", family)]
    environment = os.environ | {"COMFYUI_PATH": str(comfyui)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def count_all(version: str, families: Sequence[str]) -> None:
    """Print a row of the table for each case, as lines of JSON."""
    start(cpu=True, use_pytorch_cross_attention=True)
    import_pack()
    for family in families:
        for case in cases(version, family):
            row = {"comfyui": version, **case, **count(case)}
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()


def count(case: dict[str, Any]) -> dict[str, Any]:
    """Train on the simulated GPU; return GiB, and the waits and copies of a plain step."""
    training = load("simulated_training")
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
