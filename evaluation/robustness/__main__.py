"""Faults thrown at styles and trainings, and what became of them.

    python -m evaluation.robustness [trainings] [soak] [options]

``trainings`` injects faults into real trainings in ComfyUI and on the command line; ``soak`` uses
one ComfyUI server for long. Without a word the first runs. The table goes to
``evaluation/results/faults.md`` and ``.json``; the exit code is 1 if anything failed. Run it in the
repository; ComfyUI stands at ``$COMFYUI_PATH`` or ``~/comfy/ComfyUI``. Damaged files are those of
``tests/ops/test_damaged_files.py``.
"""

import argparse
import logging
import sys

from .report import record

log = logging.getLogger("faults")


def main() -> int:
    """Run what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.robustness", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parts", nargs="*", metavar="PART", help="trainings, soak")
    parser.add_argument("--seed", type=int, default=0, help="of when a training is killed")
    parser.add_argument("--trainings", type=int, default=200, help="of the soak")
    parser.add_argument("--samplings", type=int, default=1000, help="of the soak")
    options = parser.parse_args()
    parts = options.parts or ["trainings"]
    if unknown := set(parts) - {"trainings", "soak"}:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    failures = []
    # Each starts ComfyUI, hence late.
    if "trainings" in parts:
        from .faults import run_all

        rows = run_all(options.seed)
        record("trainings", rows)
        failures += [f"{r['where']}, {r['fault']}: {r['said']}" for r in rows if not r["good"]]
    if "soak" in parts:
        from .soak import soak

        figures, wrong = soak(options.trainings, options.samplings)
        record("soak", [{"what": what, "figure": figure} for what, figure in figures.items()])
        failures += wrong
    log.info("%s", "\n".join(failures) or "No failure.")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
