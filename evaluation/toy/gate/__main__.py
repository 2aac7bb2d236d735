"""The prior's quality gate: ``python -m evaluation.toy.gate.__main__``; fails if a row is missed.

Writes every figure to ``gate.json`` and samples of every family to ``gate.jpg``.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import load_pipeline
from evaluation.sheets import write_sheet

from .. import PRIOR
from ..reader import load_reader
from .measures import (
    GUIDANCE,
    identity_rate,
    nearness,
    sample_prompts,
    stroke_ratios,
    texture_shares,
)

COLUMNS = 12


def main() -> int:
    """Measure, write figures and a contact sheet; return 1 if a row is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/nano2"))
    parser.add_argument("--prior", type=Path, default=PRIOR)
    parser.add_argument("--out", type=Path, default=PRIOR.parent)
    options = parser.parse_args()
    figures, samples = measure(options.prior, options.work)
    rows = judge(figures)
    whole = {"passed": all(row["passed"] for row in rows.values()), "rows": rows, **figures}
    text = json.dumps(whole, indent=1) + "\n"
    (options.out / "gate.json").write_text(text, encoding="utf-8")
    sheet(samples, options.out / "gate.jpg")
    sys.stdout.write(text)
    return 0 if whole["passed"] else 1


def measure(prior: Path, work: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return every figure, and by medium the samples ``(n, s, s, 3)``."""
    backbone, reader = load_pipeline(prior), load_reader()
    samples, right = sample_prompts(backbone, reader)
    every = torch.cat(list(samples.values()))
    figures = {
        "samples": len(every),
        "guidance": GUIDANCE,
        "followed": right,
        "texture": texture_shares(backbone),
        "found through the autoencoder": identity_rate(backbone, reader),
        "strokes": stroke_ratios(backbone),
        "nearest": nearness(every, work),
    }
    return figures, samples


def judge(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each row of the gate: what was found, what is asked, and whether it passed."""
    texture, through = figures["texture"], "found through the autoencoder"
    most, least = "at most", "at least"
    asked = {
        "attributes read back, worst group": (min(figures["followed"].values()), least, 0.95),
        "a photo's identity through the autoencoder": (figures[through], least, 0.95),
        "truth through the autoencoder, share given back": (texture["given back"], most, 0.15),
        "AdaIN on latents, share covered": (texture["AdaIN covers"], most, 0.35),
        **{
            f"own strokes against true ones, {family}": (found["ratio"], most, 1.3)
            for family, found in figures["strokes"].items()
        },
        "copies of training drawings": (figures["nearest"]["copies"], most, 0),
    }
    return {
        row: {
            "found": found,
            bound: limit,
            "passed": found >= limit if bound == least else found <= limit,
        }
        for row, (found, bound, limit) in asked.items()
    }


def sheet(samples: dict[str, Tensor], path: Path) -> None:
    """Write a row of samples of each medium as one picture, enlarged twice."""
    rows = [
        torch.cat(list(pictures[:: max(1, len(pictures) // COLUMNS)][:COLUMNS]), dim=1)
        for pictures in samples.values()
    ]
    width = min(row.shape[1] for row in rows)
    levels = (torch.cat([row[:, :width] for row in rows]) * 255).round().to(torch.uint8).numpy()
    picture = Image.fromarray(levels)
    doubled = (picture.width * 2, picture.height * 2)
    write_sheet(picture.resize(doubled, Image.Resampling.LANCZOS), path)


if __name__ == "__main__":
    sys.exit(main())
