"""Faults thrown at styles and trainings, and what became of them.

    python -m evaluation.robustness [files] [trainings] [soak] [options]

``files`` damages style and resume files; ``trainings`` injects faults into real trainings in
ComfyUI and on the command line; ``soak`` uses one ComfyUI server for long. Without a word the
first two run. The table goes to ``evaluation/results/faults.md`` and ``.json``; the exit code is 1
if anything failed. Run it in the repository; ComfyUI stands at ``$COMFYUI_PATH`` or
``~/comfy/ComfyUI``.
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
    parser.add_argument("parts", nargs="*", metavar="PART", help="files, trainings, soak")
    parser.add_argument("--count", type=int, default=100_000, help="damaged files")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--trainings", type=int, default=200, help="of the soak")
    parser.add_argument("--samplings", type=int, default=1000, help="of the soak")
    options = parser.parse_args()
    parts = options.parts or ["files", "trainings"]
    if unknown := set(parts) - {"files", "trainings", "soak"}:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    failures = []
    # Each imports ComfyUI or not, hence late.
    if "files" in parts:
        from .damaged_files import check_files

        found = check_files(options.count, options.seed)
        record("files", vars(found))
        failures += found.failures
    if "trainings" in parts:
        from .faults import run_all

        rows = run_all(options.seed)
        record("trainings", {"rows": rows})
        failures += [f"{r['where']}, {r['fault']}: {r['said']}" for r in rows if not r["good"]]
    if "soak" in parts:
        from .soak import soak

        figures, wrong = soak(options.trainings, options.samplings)
        record("soak", {"figures": figures})
        failures += wrong
    log.info("%s", "\n".join(failures) or "No failure.")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
