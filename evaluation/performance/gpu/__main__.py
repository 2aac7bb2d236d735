"""Memory, speed and faults of training and applying a style on a real GPU.

    python -m evaluation.performance.gpu [--group NAME ...] [--out FILE] [--small]

It needs ComfyUI at ``$COMFYUI_PATH`` or ``~/comfy/ComfyUI``, and a CUDA GPU with nothing else to
do. Full-size models get random weights, so images mean nothing; memory, speed and faults do. Each
group of rows runs in a process of its own. The table goes to ``evaluation/results/gpu.json`` and
``gpu.md``, after every group. ``--small`` takes the tests' small models and also runs on a CPU, to
try the rows themselves.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# Each adds its rows, in this order.
from . import faults, memory, reproducibility, server, speed  # noqa: F401
from .models import Models, Scale
from .rows import run, write_table

RESULTS = Path(__file__).resolve().parents[2] / "results" / "gpu.json"
GROUPS: dict[str, Callable[[Scale], Any]] = {
    "sd1": Models,
    "speed": Models,
    "sdxl": lambda scale: Models(scale, family="sdxl"),
    "deterministic": lambda scale: Models(scale, deterministic=True),
    "server": server.Server,
}
log = logging.getLogger("benchmark")


def main() -> None:
    """Measure every group in its own process, or one in this one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--group", choices=list(GROUPS), action="append")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--small", action="store_true", help="the tests' small models")
    parser.add_argument("--seconds", type=int, default=900, help="after which nothing is begun")
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    until = time.time() + options.seconds
    names = options.group or list(GROUPS)
    if options.rows:
        run(names[0], lambda: GROUPS[names[0]](Scale(options.small)), options.rows, until)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        rows.touch()
        for name in names:
            run_group(name, options.small, rows, until)
            text = write_table(rows, options.out)
    log.info("%s", text)


def run_group(name: str, is_small: bool, rows: Path, until: float) -> None:
    """Run a group in a process of its own; one that hangs in a driver is killed."""
    left = int(until - time.time())
    command = [sys.executable, "-m", "evaluation.performance.gpu", "--group", name]
    command += ["--rows", str(rows), "--seconds", str(left), *(["--small"] if is_small else [])]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    if name == "deterministic":
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # As ComfyUI's option sets it.
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, env=environment, timeout=max(left, 0) + 15, check=False)


if __name__ == "__main__":
    main()
