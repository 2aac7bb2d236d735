"""Whether gradients through ComfyUI's transformers are right, and the model is left as it was.

    python -m evaluation.performance.transformers

It needs ComfyUI at ``$COMFYUI_PATH`` or ``~/comfy/ComfyUI``. Each family's tiny model of the tests,
with random weights on the CPU: the gradient of a denoising loss by adapters and prompt against
the central finite difference along a random direction, and what two sampling steps change. Nothing
of it is about how good images are. The table goes to ``evaluation/results/transformers.json``.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch

from .. import comfyui_host

RESULTS = Path(__file__).resolve().parents[1] / "results" / "transformers.json"
log = logging.getLogger("benchmark")


def main() -> None:
    """Measure every family and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    comfyui_host.start(cpu=True)
    comfyui_host.import_pack()
    rows = {}
    for family in comfyui_host.load("tiny_transformers").FAMILIES:
        rows[family] = measure(family)
        log.info("%s %s", family, rows[family])
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def measure(family: str) -> dict[str, float | bool]:
    """Return a family's row."""
    tiny, styles = map(comfyui_host.load, ("tiny_transformers", "transformer_styles"))
    slope, difference, gradients = styles.slopes(family)
    _, _, again = styles.slopes(family, is_checkpointed=True)
    length = sum(float(g.double().square().sum()) for g in gradients) ** 0.5
    model: Any = tiny.build_model(family)
    plain = tiny.sample(model)
    styled = tiny.sample(styles.apply(model, styles.style_for(model)))
    untrained = tiny.sample(styles.apply(model, styles.style_for(model, scale=0.0)))
    return {
        "|gradient - finite difference| / |gradient|": abs(slope - difference) / length,
        "checkpointed gradient equal": all(map(torch.equal, gradients, again)),
        "mean change of latents by adapters": float((styled - plain).abs().mean()),
        "untrained adapters change nothing": torch.equal(untrained, plain),
        "plain model unchanged afterwards": torch.equal(tiny.sample(model), plain),
    }


if __name__ == "__main__":
    main()
