"""Photos and paintings on any local diffusers folder."""

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import load_pipeline
from acfun_ops.backbones.pipeline_files import check_folder, read_json
from acfun_ops.errors import ACFunError
from acfun_ops.image_files import read_image
from acfun_ops.images import to_squares
from acfun_ops.method.alignment_loss import SETTINGS
from acfun_ops.training.config import PRESET_WORDS, TrainConfig, with_preset

from .benchmark import Bench, Figure, Method, MethodResult, Pair, Row, Sampling, Section, prompt_of
from .methods.acfun import Acfun
from .methods.attention import AttentionDistillation, LatentAdain, NamedImg2Img, StyleId
from .methods.lora import BLora, DreamBoothLora
from .methods.textual_inversion import DreamStyler, Inst, TextualInversion
from .metrics.identity_and_style import IDENTITY_FIGURES, STYLE_FIGURES, Identity, StyleFeatures
from .metrics.image_statistics import (
    colour_distance,
    structure_correlation,
    texture_distance,
    variety,
)
from .runner import OpenBench
from .sections.rows import B_LORA, OURS, PAPER, PAPER_STEPS, papers_config

# With the settings of their papers, for models of Stable Diffusion's size.
PEERS: dict[str, Method] = {
    "textual inversion": TextualInversion(),
    "DreamBooth LoRA": DreamBoothLora(),
    "InST-like": Inst(),
    B_LORA: BLora(),
    "DreamStyler": DreamStyler(),
    "StyleID": StyleId(steps=50),
    "Attention Distillation": AttentionDistillation(),
    "AdaIN on latents": LatentAdain(),
    "img2img, style in words": NamedImg2Img(),
}
IMAGE_FIGURES = (
    Figure("colour", "colour distance", "lower", "style"),
    Figure("texture", "texture distance", "lower", "style"),
    Figure("leak", "layout of the painting", "lower"),
    Figure("variety", "variety", "higher"),
)
LAYOUT = Figure("layout", "layout of the photo", "higher", "face")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
WORDS = Path(__file__).with_name("real_words.json")
PAPER_SAMPLING_STEPS = 40
SAMPLING_STEPS = {"quick": 20, "balanced": 30, "paper": PAPER_SAMPLING_STEPS}

log = logging.getLogger(__name__)


def open_bench(options: argparse.Namespace) -> Bench:
    """Load the model and the images that the options of :func:`add_options` name."""
    dtype = getattr(torch, options.dtype)
    backbone = load_pipeline(options.model, options.image_encoder, options.device, dtype)
    faces = _images(options.faces, backbone.native_side)
    styles = _images(options.styles, backbone.native_side)
    words = json.loads(options.words.read_text(encoding="utf-8"))
    combined = [(face, style) for style in styles for face in faces]
    count = len(combined) if options.pairs is None else min(options.pairs, len(combined))
    chosen = [combined[i * len(combined) // count] for i in range(count)]
    is_whole = options.figures == "all"
    judged = (*IDENTITY_FIGURES, *STYLE_FIGURES) if is_whole else (LAYOUT,)
    return Bench(
        name=f"real-{options.model.name}",
        backbone=backbone,
        pairs=[_pair(face, style, faces[face], styles[style], words) for face, style in chosen],
        figures=(*judged, *IMAGE_FIGURES),
        measure=_measure(faces, styles, chosen, is_whole),
    )


def _measure(
    faces: dict[str, Tensor],
    styles: dict[str, Tensor],
    pairs: list[tuple[str, str]],
    is_whole: bool,
) -> Callable[[int, MethodResult], dict[str, float]]:
    face_names, style_names = list(faces), list(styles)
    if is_whole:
        people = [_person(name) for name in face_names]
        identity = Identity(list(faces.values()), people, face_names)
        features = StyleFeatures(list(styles.values()))

    def measure(index: int, result: MethodResult) -> dict[str, float]:
        face, style = pairs[index]
        measured = image_figures(faces[face], styles[style], result.samples)
        if is_whole:
            measured |= identity.figures(face_names.index(face), result.samples)
            measured |= features.figures(style_names.index(style), result.samples)
        return measured

    return measure


def image_figures(face: Tensor, style: Tensor, samples: Tensor) -> dict[str, float]:
    """Return the figures that need no further package, of samples ``(n, s, s, 3)``."""
    photo, painting, images = face.numpy(), style.numpy(), list(samples.numpy())
    return {
        "layout": float(np.mean([structure_correlation(one, photo) for one in images])),
        "colour": float(np.mean([colour_distance(one, painting) for one in images])),
        "texture": float(np.mean([texture_distance(one, painting) for one in images])),
        "leak": float(np.mean([structure_correlation(one, painting) for one in images])),
        "variety": variety(images),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--model", type=Path, required=True, help="a diffusers folder")
    parser.add_argument("--faces", type=Path, required=True, help="a folder of photos")
    parser.add_argument("--styles", type=Path, required=True, help="a folder of paintings")
    parser.add_argument("--words", type=Path, default=WORDS, help="what they are called, as JSON")
    parser.add_argument("--pairs", type=int, help="at most so many, spread over all")
    parser.add_argument(
        "--preset",
        choices=PRESET_WORDS,
        default="balanced",
        help="how long all rows train and sample, and ACFun's learning rate; paper: 500 steps at "
        "1e-4, sampled in 40",
    )
    parser.add_argument("--steps", type=int, help="of training, in place of the preset's")
    parser.add_argument("--sampling-steps", type=int, help="in place of the preset's")
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--figures", choices=["all", "pictures"], default="all")
    add_device_options(parser)


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add what loads the model beside its folder."""
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--image-encoder", type=Path, help="a CLIP vision folder, if it has none")
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="bfloat16" if on_gpu else "float32"
    )


def opener(options: argparse.Namespace) -> OpenBench:
    """Return what opens the bench in any process."""
    return partial(open_bench, options)


def sections(options: argparse.Namespace) -> list[Section]:
    """Return the rows: ours, the paper's settings, and every peer that the model can carry.

    Raises:
        ACFunError: the model's folder is no pipeline.
    """
    config = with_preset(TrainConfig(), PRESET_WORDS[options.preset])
    steps = options.steps or config.steps
    sampling_steps = options.sampling_steps or SAMPLING_STEPS[options.preset]
    sampling = Sampling(steps=sampling_steps, guidance=options.guidance)
    methods = {OURS: Acfun(config=config, settings=SETTINGS), **_peers(options.model)}
    rows = [
        Row(name=name, method=method, steps=steps, sampling=sampling)
        for name, method in methods.items()
    ]
    paper = Acfun(config=papers_config(TrainConfig()))
    forty = replace(sampling, steps=PAPER_SAMPLING_STEPS)
    rows.insert(1, Row(name=PAPER, method=paper, steps=PAPER_STEPS, sampling=forty))
    return [Section(title="Peers", rows=rows, reference=OURS, is_ranked=True)]


def _peers(model: Path) -> dict[str, Method]:
    check_folder(model)
    first = read_json(model / "unet" / "config.json")["up_block_types"][0]
    if "Attn" in first:
        return dict(PEERS)
    log.warning(
        "The row %s is left out: it needs attention in the first block of the U-Net's decoder, "
        "which SDXL has and this model has not.",
        B_LORA,
    )
    return {name: peer for name, peer in PEERS.items() if name != B_LORA}


def _images(folder: Path, side: int) -> dict[str, Tensor]:
    """Return a folder's images as squares ``(side, side, 3)`` by name, sorted."""
    files = [path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise ACFunError(f"{folder} holds no {', '.join(SUFFIXES)} images.")
    return {path.stem: read_square(path, side) for path in files}


def read_square(path: Path, side: int) -> Tensor:
    """Return an image file as a square ``(side, side, 3)`` in [0, 1]."""
    return to_squares(read_image(path), side, path.name)[0]


def _pair(
    face: str, style: str, photo: Tensor, painting: Tensor, words: dict[str, dict[str, str]]
) -> Pair:
    who = words.get("faces", {}).get(face, "a person")
    style_words = words.get("styles", {}).get(style, "a painting")
    pair = real_pair(f"{face}-{style}", photo, painting, who, style_words)
    sitter = words.get("sitters", {}).get(style)
    return replace(pair, style_prompt=prompt_of(sitter)) if sitter else pair


def real_pair(
    name: str, photo: Tensor, painting: Tensor, who: str, style_words: str = "a painting"
) -> Pair:
    """Return a pair of a photo and a painting ``(s, s, 3)``, of which words say who and how."""
    return Pair(
        name=name,
        style=painting,
        face=photo,
        prompt=prompt_of(who),
        face_words=who,
        style_words=style_words,
        other_prompt=prompt_of(f"{who} wearing a hat"),
    )


def _person(name: str) -> str:
    """Return who is on a photo called ``name_1``."""
    stem, _, number = name.rpartition("_")
    return stem if stem and number.isdigit() else name
