"""The prior's quality gate: ``python -m benchmarks.nano.gate``.

Does the reader find what was prompted in what the prior draws, and are its samples its own?
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone, load_pipeline
from acfun_ops.drawing.drawing import Guidance, draw_latents
from acfun_ops.method.diffusion import noise_at, sampling_sigmas

from .captions import describe
from .drawings import SEED, draw_set, training_drawings
from .labels import GROUPS, attributes_of
from .people import draw_person
from .reader import load_reader
from .styles import HUES, WORDS

PRIOR = Path(__file__).parent / "prior"
RESULTS = Path(__file__).parent / "gate.json"
LEAST = 0.90
PEOPLE = 40


def main() -> None:
    """Draw, read, compare, and write figures and a contact sheet beside the prior."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/nano"))
    parser.add_argument("--prior", type=Path, default=PRIOR)
    parser.add_argument("--guidance", type=float, default=2.0)
    options = parser.parse_args()
    backbone = load_pipeline(options.prior)
    drawn, right = obeyed(backbone, options.guidance)
    figures = {
        "samples": len(drawn),
        "guidance": options.guidance,
        "obeyed": right,
        "passed": min(right.values()) >= LEAST,
        "nearest": nearness(drawn, options.work),
    }
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sheet(drawn, RESULTS.with_suffix(".jpg"))
    sys.stdout.write(RESULTS.read_text(encoding="utf-8"))


def obeyed(backbone: DiffusersBackbone, guidance: float) -> tuple[Tensor, dict[str, float]]:
    """Prompt for people in full, as photos and in each kind of painting; read them back.

    Returns:
        The samples ``(n, s, s, 3)`` and by group the share that shows what was asked for.
    """
    random = np.random.default_rng(SEED + 2)
    generator = torch.Generator().manual_seed(SEED + 2)
    reader, samples = load_reader(), []
    right: dict[str, list[float]] = {group: [] for group in GROUPS}
    for medium in ("a photo", *WORDS.values()):
        for _ in range(PEOPLE if medium == "a photo" else PEOPLE // len(WORDS) + 1):
            person = draw_person(random)
            tones = "" if medium == "a photo" else f" in {HUES[random.integers(len(HUES))]} style"
            prompt = f"{medium} of {describe(person)}{tones}"
            pictures = draw(backbone, prompt, 4, guidance, generator)
            reading = reader.read(pictures)
            asked = attributes_of(person) | {"medium": int(medium != "a photo")}
            for group, value in asked.items():
                right[group] += (reading.attributes[group].argmax(dim=1) == value).tolist()
            samples.append(pictures)
    return torch.cat(samples), {group: float(np.mean(hits)) for group, hits in right.items()}


def draw(
    backbone: DiffusersBackbone,
    prompt: str,
    count: int,
    guidance: float,
    generator: torch.Generator,
    steps: int = 25,
) -> Tensor:
    """Draw ``count`` pictures of a prompt ``(n, s, s, 3)``."""
    shape = (count, backbone.unet.config.in_channels, *[backbone.unet.config.sample_size] * 2)
    noise = torch.randn(shape, generator=generator)
    styled, plain = (backbone.encode_prompt(text, "S*", {}) for text in (prompt, ""))
    sigmas = sampling_sigmas(backbone.sigmas, steps)
    prompts = Guidance(styled, plain, guidance)
    latents = draw_latents(backbone, noise_at(sigmas[0], noise), sigmas, prompts)
    return backbone.decode_latents(latents)


def nearness(samples: Tensor, work: Path) -> dict[str, float]:
    """Return how far samples and fresh drawings are from their nearest training drawing."""
    trained = torch.from_numpy(training_drawings(work)[0].pictures)
    small = _small(trained.float() / 255)
    fresh = torch.from_numpy(draw_set(len(samples), SEED + 3).pictures).float() / 255
    ours, theirs = (torch.cdist(_small(p), small).amin(dim=1) for p in (samples, fresh))
    return {
        "median of samples": float(ours.median()),
        "least of samples": float(ours.min()),
        "median of fresh drawings": float(theirs.median()),
        "least of fresh drawings": float(theirs.min()),
    }


def _small(pictures: Tensor) -> Tensor:
    pooled = torch.nn.functional.avg_pool2d(pictures.permute(0, 3, 1, 2), 4)
    return pooled.flatten(1)


def sheet(samples: Tensor, path: Path, columns: int = 20) -> None:
    """Write some samples as one picture, enlarged twice."""
    chosen = samples[:: max(1, len(samples) // (8 * columns))][: 8 * columns]
    rows = [torch.cat(list(row), dim=1) for row in chosen.split(columns) if len(row) == columns]
    levels = (torch.cat(rows) * 255).round().to(torch.uint8).numpy()
    picture = Image.fromarray(levels)
    picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.LANCZOS).save(
        path, quality=88
    )


if __name__ == "__main__":
    main()
