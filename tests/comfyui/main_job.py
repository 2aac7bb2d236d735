"""The main job in a real ComfyUI, through its /prompt: train, save, load, apply, sample.

    bash tests/run main-job [--style S --face F] [--checkpoint C --clip-vision V] [--out out]

Without pictures it draws two; without models it makes small ones of random weights, whose pictures
are noise. A contact sheet and the style go to the folder --out.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from comfy_graphs import PromptGraph, node, text_to_image
from PIL import Image, ImageDraw

from acfun_ops.training.config import TrainConfig

if TYPE_CHECKING:
    from comfy_server import ComfyServer

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")).expanduser()
TILE = 256
DEFAULTS = TrainConfig()
log = logging.getLogger("main-job")


def main() -> None:
    """Run the job and say where its results are."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    options = parse_arguments()
    sys.path.insert(0, str(COMFYUI))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # This process only writes models; the server has the GPU.
    from comfy_server import ComfyServer

    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        names = place_models(models, options)
        with ComfyServer(COMFYUI, models, pack=ROOT, cpu=not torch.cuda.is_available()) as server:
            run_job(server, names, options)


def parse_arguments() -> argparse.Namespace:
    """Return the options, with the defaults that fit the small model or a real one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--style", type=Path, help="the style picture")
    parser.add_argument("--face", type=Path, help="the face photo")
    parser.add_argument("--checkpoint", type=Path, help="an SD1.x, SD2.x or SDXL checkpoint")
    parser.add_argument("--clip-vision", type=Path, help="a CLIP vision model")
    parser.add_argument("--prompt", default="A painting of a woman in S* style")
    parser.add_argument("--steps", type=int, help="(the node's; 40 with the small model)")
    parser.add_argument("--resolution", type=int, help="(the model's own; 128 with the small one)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    options = parser.parse_args()
    if (options.checkpoint is None) != (options.clip_vision is None):
        parser.error("--checkpoint and --clip-vision go together")
    is_small = options.checkpoint is None
    options.steps = options.steps or (40 if is_small else DEFAULTS.steps)
    options.resolution = options.resolution or (128 if is_small else 0)
    return options


def place_models(models: Path, options: argparse.Namespace) -> dict[str, str]:
    """Link the user's models, or write small ones; return their names in ComfyUI."""
    from models_dir import ModelsDir

    if options.checkpoint is None:
        log.info("Making a small checkpoint of random weights: the pictures will be noise.")
        small = ModelsDir(models)
        return {"checkpoint": small.name("sd1"), "vision": small.name("clip_vision")}
    names = {}
    for key, folder in {"checkpoint": "checkpoints", "vision": "clip_vision"}.items():
        source = (options.checkpoint if key == "checkpoint" else options.clip_vision).resolve()
        link = models / folder / source.name
        link.parent.mkdir(parents=True)
        link.symlink_to(source)
        names[key] = link.name
    return names


def run_job(server: ComfyServer, names: dict[str, str], options: argparse.Namespace) -> None:
    """Train and save in one prompt, load and apply in a second."""
    pictures = {
        "style.png": options.style or drawn_style(),
        "face.png": options.face or drawn_face(),
    }
    for name, picture in pictures.items():
        image = picture if isinstance(picture, Image.Image) else Image.open(picture)
        server.add_input(name, np.asarray(image.convert("RGB")))
    log.info("Training %d steps ...", options.steps)
    trained = server.run(training_graph(names, options), timeout=6 * 3600)
    log.info(trained["outputs"]["save_style"]["text"][0])
    (style,) = server.styles_dir.glob("*.safetensors")
    log.info("Loading the style and sampling with and without it ...")
    graph = sampling_graph(names, style.name, options)
    sampled = server.run(graph, timeout=6 * 3600)
    tiles = [np.asarray(Image.open(server.input_dir / name).convert("RGB")) for name in pictures]
    tiles += server.images(trained, "show_previews")[-1:]
    tiles += server.images(sampled, "save_plain") + server.images(sampled, "save")
    sheet = options.out / "style_face_preview_plain_styled.png"
    contact_sheet(tiles).save(sheet)
    shutil.copy(style, options.out / style.name)
    log.info("Wrote %s and %s.", sheet, options.out / style.name)


def training_graph(names: dict[str, str], options: argparse.Namespace) -> PromptGraph:
    """Return a graph that trains a style and saves it."""
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=names["checkpoint"]),
        "vision": node("CLIPVisionLoader", clip_name=names["vision"]),
        "style": node("LoadImage", image="style.png"),
        "face": node("LoadImage", image="face.png"),
        "train": node(
            "ACFunTrainStyle",
            model=["checkpoint", 0],
            clip=["checkpoint", 1],
            vae=["checkpoint", 2],
            clip_vision=["vision", 0],
            style_image=["style", 0],
            face_image=["face", 0],
            prompt=options.prompt,
            steps=options.steps,
            learning_rate=DEFAULTS.learning_rate,
            style_weight=DEFAULTS.style_weight,
            face_weight=DEFAULTS.face_weight,
            seed=DEFAULTS.seed,
            resolution=options.resolution,
            preview_every=options.steps,
            rank=DEFAULTS.rank,
            alignment=DEFAULTS.alignment,
            precision=DEFAULTS.precision,
            gradient_checkpointing=DEFAULTS.gradient_checkpointing,
        ),
        "save_style": node("ACFunSaveStyle", style=["train", 0], filename_prefix="style"),
        "show_previews": node("PreviewImage", images=["train", 2]),
    }


def sampling_graph(names: dict[str, str], style: str, options: argparse.Namespace) -> PromptGraph:
    """Return a graph that samples with a saved style and, from the same noise, without it."""
    size = options.resolution or 512
    graph = text_to_image(names["checkpoint"], prompt=options.prompt, steps=20, size=size)
    graph["sample_plain"] = {**graph["sampler"]}
    graph["decode_plain"] = node("VAEDecode", samples=["sample_plain", 0], vae=["checkpoint", 2])
    graph["save_plain"] = node("SaveImage", images=["decode_plain", 0], filename_prefix="plain")
    graph["load_style"] = node("ACFunLoadStyle", style_file=style)
    graph["embed"] = node(
        "ACFunApplyEmbedding",
        style=["load_style", 0],
        clip=["checkpoint", 1],
        text=options.prompt,
        strength=1.0,
    )
    graph["adapt"] = node(
        "ACFunApplyAdapters",
        model=["checkpoint", 0],
        style=["load_style", 0],
        strength=1.0,
        encoder_strength=1.0,
        middle_strength=1.0,
        decoder_strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    styled = graph["sampler"]["inputs"] | {"model": ["adapt", 0], "positive": ["embed", 0]}
    graph["sampler"] = node("KSampler", **styled)
    return graph


def drawn_face() -> Image.Image:
    """Return a plain drawing of a face."""
    image = Image.new("RGB", (512, 512), (150, 170, 190))
    draw = ImageDraw.Draw(image)
    draw.ellipse((120, 60, 392, 420), fill=(70, 45, 30))
    draw.rectangle((200, 380, 312, 512), fill=(215, 170, 145))
    draw.ellipse((150, 100, 362, 430), fill=(225, 180, 155))
    for x in (205, 285):
        draw.ellipse((x, 225, x + 36, 247), fill="white")
        draw.ellipse((x + 9, 226, x + 29, 246), fill=(60, 90, 60))
    draw.line((256, 250, 246, 315, 264, 318), fill=(190, 140, 120), width=5)
    draw.arc((210, 320, 302, 380), 20, 160, fill=(170, 70, 70), width=10)
    return image


def drawn_style() -> Image.Image:
    """Return a picture of coloured strokes."""
    random = np.random.default_rng(0)
    image = Image.new("RGB", (512, 512), (235, 200, 90))
    draw = ImageDraw.Draw(image)
    for x, y, angle in zip(
        *random.uniform(0, 512, (2, 900)), random.uniform(0, 3.14, 900), strict=True
    ):
        dx, dy = 24 * np.cos(angle), 24 * np.sin(angle)
        colour = tuple(
            int(c) for c in random.choice([(20, 60, 140), (200, 80, 30), (250, 220, 120)])
        )
        draw.line((x, y, x + dx, y + dy), fill=colour, width=7)
    return image


def contact_sheet(tiles: Sequence[np.ndarray]) -> Image.Image:
    """Return pictures side by side, each as high as the others."""
    pictures = [Image.fromarray(tile) for tile in tiles]
    scaled = [p.resize((round(p.width * TILE / p.height), TILE)) for p in pictures]
    sheet = Image.new("RGB", (sum(p.width for p in scaled), TILE), "white")
    left = 0
    for picture in scaled:
        sheet.paste(picture, (left, 0))
        left += picture.width
    return sheet


if __name__ == "__main__":
    main()
