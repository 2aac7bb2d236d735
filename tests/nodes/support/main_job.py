"""The main job in a real ComfyUI, through its /prompt: train, save, load, apply, sample.

    bash tests/run main-job [--style S --face F] [--checkpoint C --clip-vision V] [--out out]

Without pictures it takes the examples of the workflows; without models it draws with the toy prior
of evaluation/toy. A contact sheet and the style go to the folder --out.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from comfy_graphs import PromptGraph, node, text_to_image  # noqa: E402
from PIL import Image  # noqa: E402
from small_prior_graphs import link_small_prior, with_small_prior  # noqa: E402

from acfun_ops.training.config import TrainConfig  # noqa: E402
from evaluation import comfyui_host  # noqa: E402

if TYPE_CHECKING:
    from comfy_server import ComfyServer

EXAMPLES = ROOT / "web" / "examples"
PROMPT = "A painting of a woman with long red hair and glasses in S* style"
TILE = 256
DEFAULTS = TrainConfig()
log = logging.getLogger("main-job")


def main() -> None:
    """Run the job and say where its results are."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    options = parse_arguments()
    comfyui_host.start(cpu=True)  # This process only writes models; the server has the GPU.
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        names = place_models(models, options)
        server = comfyui_host.new_server(models, cpu=not torch.cuda.is_available())
        if options.checkpoint is None:
            link_small_prior(server)
        with server:
            run_job(server, names, options)


def parse_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    style, face = EXAMPLES / "acfun_style.jpg", EXAMPLES / "acfun_face.jpg"
    parser.add_argument("--style", type=Path, default=style, help="the style picture")
    parser.add_argument("--face", type=Path, default=face, help="the face photo")
    parser.add_argument("--checkpoint", type=Path, help="an SD1.x, SD2.x or SDXL checkpoint")
    parser.add_argument("--clip-vision", type=Path, help="a CLIP vision model")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--steps", type=int, default=DEFAULTS.steps, help="of the training")
    parser.add_argument("--resolution", type=int, default=0, help="of the training (the model's)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    options = parser.parse_args()
    if (options.checkpoint is None) != (options.clip_vision is None):
        parser.error("--checkpoint and --clip-vision go together")
    return options


def place_models(models: Path, options: argparse.Namespace) -> dict[str, str]:
    """Link the user's models; return their names in ComfyUI, which the prior takes the place of."""
    if options.checkpoint is None:
        log.info("Drawing with the toy prior of 64 pixels; name a checkpoint for pictures.")
        return {"checkpoint": "", "vision": ""}
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
    fitted = with_small_prior if options.checkpoint is None else dict
    pictures = {"style.png": options.style, "face.png": options.face}
    for name, picture in pictures.items():
        server.add_input(name, np.asarray(Image.open(picture).convert("RGB")))
    log.info("Training %d steps ...", options.steps)
    trained = server.run(fitted(training_graph(names, options)), timeout=6 * 3600)
    log.info(trained["outputs"]["save_style"]["text"][0])
    (style,) = server.styles_dir.glob("*.safetensors")
    log.info("Loading the style and sampling with and without it ...")
    graph = sampling_graph(names, style.name, options)
    sampled = server.run(fitted(graph), timeout=6 * 3600)
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
