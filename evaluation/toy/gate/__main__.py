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
from .autoencoder import identity_rate, texture_shares
from .samples import nearness, recognize_strokes, sample_prompts, stroke_ratios

PEOPLE = 40
STYLES = 6
COLUMNS = 12


def main() -> int:
    """Measure, write figures and a contact sheet; return 1 if a row is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/nano2"))
    parser.add_argument("--prior", type=Path, default=PRIOR)
    parser.add_argument("--out", type=Path, default=PRIOR.parent)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--people", type=int, default=PEOPLE, help="photos prompted for")
    parser.add_argument("--styles", type=int, default=STYLES, help="styles of each family")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures, samples = measure(options)
    rows = judge(figures)
    whole = {"passed": all(row["passed"] for row in rows.values()), "rows": rows, **figures}
    text = json.dumps(whole, indent=1) + "\n"
    (options.out / "gate.json").write_text(text, encoding="utf-8")
    sheet(samples, options.out / "gate.jpg")
    sys.stdout.write(text)
    return 0 if whole["passed"] else 1


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return every figure, and by medium the samples ``(n, s, s, 3)``."""
    backbone = load_pipeline(options.prior)
    reader = load_reader()
    samples, right = sample_prompts(backbone, reader, options.guidance, options.people)
    every = torch.cat(list(samples.values()))
    figures = {
        "samples": len(every),
        "guidance": options.guidance,
        "followed": right,
        "texture": texture_shares(backbone),
        "found through the autoencoder": identity_rate(backbone, reader),
        "strokes": stroke_ratios(backbone, options.guidance, options.styles),
        "told by their strokes": recognize_strokes(backbone, samples),
        "nearest": nearness(every, options.work),
    }
    return figures, samples


def judge(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each row of the gate: what was found, what is asked, and whether it passed."""
    texture = figures["texture"]
    least = {
        "attributes read back, worst group": (min(figures["followed"].values()), 0.95),
        "a photo's identity through the autoencoder": (
            figures["found through the autoencoder"],
            0.95,
        ),
    }
    most = {
        "truth through the autoencoder, share given back": (texture["given back"], 0.15),
        "AdaIN on latents, share covered": (texture["AdaIN covers"], 0.35),
        **{
            f"own strokes against true ones, {family}": (found["ratio"], 1.3)
            for family, found in figures["strokes"].items()
        },
        "copies of training drawings": (figures["nearest"]["copies"], 0),
    }
    rows = {
        name: {"found": found, "at least": limit, "passed": found >= limit}
        for name, (found, limit) in least.items()
    }
    rows |= {
        name: {"found": found, "at most": limit, "passed": found <= limit}
        for name, (found, limit) in most.items()
    }
    return rows


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
