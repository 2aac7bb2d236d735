"""Memory, speed and faults of training and applying a style on a real GPU.

    python -m evaluation.performance.gpu [--group NAME ...] [--out FILE] [--small]

It needs ComfyUI at ``$COMFYUI_PATH`` or ``~/comfy/ComfyUI``, and a CUDA GPU with nothing else to
do. Models of full size get random weights, so pictures mean nothing; memory, speed and faults do.
Each group of rows runs in a process of its own, which imports while the one before it measures.
The table goes to ``evaluation/results/gpu.json`` and ``gpu.md``, after every row. ``--small`` takes
the tests' small models and runs on a CPU, too, to try the rows themselves.
"""

import argparse
import importlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.performance.gpu.table import write_table

RESULTS = Path(__file__).resolve().parents[2] / "results" / "gpu.json"
GIB = 2**30
# What takes long to import and asks no GPU anything.
HEAVY = (
    "torch",
    "torch._dynamo",
    "torchvision",
    "torchaudio",
    "torchsde",
    "transformers",
    "scipy.integrate",
    "aiohttp",
    "pydantic",
)
log = logging.getLogger("benchmark")


def main() -> None:
    """Measure every group in its own process, or one in this one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--group", choices=list(GROUPS), action="append")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--small", action="store_true", help="the tests' small models")
    parser.add_argument("--seconds", type=int, default=900, help="after which nothing is begun")
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.rows:
        measure_here(options.group[0], options.small, options.rows, options.until)
        return
    names = options.group or list(GROUPS)
    table = measure_all(names, options.small, options.out, time.time() + options.seconds)
    log.info("%s", table)


def measure_all(names: list[str], small: bool, out: Path, until: float) -> str:
    """Run groups one after the other; return the table as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        rows.touch()
        waiting = {name: _started(name, small, rows, until) for name in names}
        for name, process in waiting.items():
            log.info("Group %s begins.", name)
            process.stdin.write(b"go\n")
            process.stdin.close()
            # A group ends by itself; one that hangs in a driver does not.
            while process.poll() is None and time.time() < until + 15:
                time.sleep(0.3)
                write_table(rows, out)
            if process.poll() is None:
                process.kill()
        return write_table(rows, out)


def _started(name: str, small: bool, rows: Path, until: float) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "evaluation.performance.gpu",
        "--group",
        name,
        "--rows",
        str(rows),
    ]
    command += ["--until", str(until), *(["--small"] if small else [])]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    if name == "deterministic":
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # As ComfyUI's option sets it.
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)


def measure_here(name: str, small: bool, rows: Path, until: float) -> None:
    """Import, wait for the GPU to be free, and measure a group."""
    from evaluation.performance.gpu.rows import failed

    try:
        for module in HEAVY:
            importlib.import_module(module)
        sys.stdin.readline()
        GROUPS[name](small, rows, until)
    except Exception as error:  # noqa: BLE001 - any error here is the finding.
        failed(name, "the group as a whole", error, rows)


def sd1(small: bool, rows: Path, until: float) -> None:
    """Measure SD1.5 at 512: memory, faults, what stays the same."""
    from evaluation.performance.gpu import faults, memory, reproducibility

    place = _place(small)
    fp16 = [{"weights": "fp16", "checkpointing": on} for on in ("off", "on")]
    tight = {"weights": "fp16", "checkpointing": "on"}
    others = [tight | {"total": 3.4 * GIB}, tight | {"state": "NO_VRAM"}]
    others += [{"weights": w, "checkpointing": "on"} for w in ("bf16", "fp8")]
    faults, same = faults.rows(place), reproducibility.rows(place)
    first, last = (memory.rows(place, cases, 25) for cases in (fp16, others))
    _run("sd1", place, rows, until, first, faults, same[:2], last, same[2:])


def speed(small: bool, rows: Path, until: float) -> None:
    """Measure the speed of SD1.5 at 512; nothing else may use the GPU meanwhile."""
    from evaluation.performance.gpu import speed

    place = _place(small)
    _run("speed", place, rows, until, speed.rows(place))


def sdxl(small: bool, rows: Path, until: float) -> None:
    """Measure the memory of SDXL at 1024."""
    from evaluation.performance.gpu import memory

    place = _place(small, family="sdxl")
    cases = [
        {"weights": "fp16", "checkpointing": "on"},
        {"weights": "fp16", "checkpointing": "off"},
    ]
    cases += [cases[0] | {"total": 7.2 * GIB}]
    cases += [{"weights": w, "checkpointing": "on"} for w in ("fp8", "bf16")]
    _run("sdxl", place, rows, until, memory.rows(place, cases, 40))


def deterministic(small: bool, rows: Path, until: float) -> None:
    """Compare trainings under ComfyUI's ``--deterministic``."""
    from evaluation.performance.gpu import faults, reproducibility

    place = _place(small, deterministic=True)
    cancelled = faults.deterministic_rows(place)
    _run("deterministic", place, rows, until, reproducibility.deterministic_rows(place), cancelled)


def server(small: bool, rows: Path, until: float) -> None:
    """Train, draw and cancel in a ComfyUI server with its defaults, dynamic VRAM among them."""
    from evaluation.performance.gpu import server

    server.measure(small, rows, until)


def _place(small: bool, **options: Any) -> Any:
    from evaluation.performance.gpu.models import Place, Scale

    began = time.time()
    place = Place(Scale(small), **options)
    log.info("Models drawn in %.1f s, loaded after %.1f s.", place.drawn_in, time.time() - began)
    return place


def _run(name: str, place: Any, rows: Path, until: float, *parts: list[Any]) -> None:
    from evaluation.performance.gpu.rows import Row, run

    machine = Row("machine", 10, place.machine)
    run(name, [machine, *(row for part in parts for row in part)], place.card, rows, until)


GROUPS: dict[str, Callable[[bool, Path, float], None]] = {
    "sd1": sd1,
    "speed": speed,
    "sdxl": sdxl,
    "deterministic": deterministic,
    "server": server,
}


if __name__ == "__main__":
    main()
