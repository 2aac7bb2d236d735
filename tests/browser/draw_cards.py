"""Draws the templates' cards: what goes into a workflow and what comes out of it.

    python tests/browser/draw_cards.py [1 Train a style and apply it ...]

The graph is the workflow's own. What it draws comes from the toy prior, with the sizes and numbers
that the prior needs; a line at the foot of each card says so. What the prior cannot draw (two
people, a ControlNet, a larger image, one face of two photos) is not on a card: its inputs are.
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests" / "nodes" / "support"), str(ROOT / "tests" / "browser"), str(ROOT)]

log = logging.getLogger("draw-cards")

from comfy_graphs import node  # noqa: E402
from comfy_server import ComfyServer  # noqa: E402
from page_setup import MODEL_FILES, STYLE_FILE  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402
from small_prior_graphs import (  # noqa: E402
    EXAMPLES,
    link_small_prior,
    put_examples,
    with_small_prior,
    write_small_prior_lora,
)
from small_prior_node import PRIOR  # noqa: E402
from workflow_prompts import (  # noqa: E402
    WORKFLOWS_DIR,
    Prompt,
    changed,
    load_workflow,
    node_id,
    to_prompt,
    workflow_names,
)

from evaluation.comfyui_host import new_server  # noqa: E402

IMAGES_DIR = ROOT / "web" / "pictures"
SIDE, ROW, GAP, FOOT = 800, 262, 4, 20
TRAINS = "1 Train a style and apply it"
OTHER_STYLE_FILE = "other_00001_.safetensors"
OTHER_TEXT = "A painting of a man with short red hair and glasses and beard smiling in S* style"
FOOT_TEXT = "Drawn by the repository's toy model at 64 pixels, not by Stable Diffusion."
UNSEEN = "{}, experimental: what goes in. Nobody has seen what comes out on real weights."
STYLE, FACE = ("style", EXAMPLES / "acfun_style.jpg"), ("face", EXAMPLES / "acfun_face.jpg")
OTHER_FACE = EXAMPLES / "acfun_other_face.jpg"
MASK = ("mask", EXAMPLES / "acfun_face_mask.png")
OTHER_STYLE = PRIOR.parent / "demo" / "style.png"


@dataclass(frozen=True)
class Card:
    """What a card shows.

    Args:
        above: captions and files of what goes in.
        below: captions and titles of the nodes whose images come out.
        inputs: by caption, the inputs of nodes that differ from the workflow's for it.
        foot: the line below.
    """

    above: tuple[tuple[str, Path], ...]
    below: tuple[tuple[str, str], ...]
    inputs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    foot: str = FOOT_TEXT


RESULT = (("result", "Styled image"),)
HALVES = {
    "the prompt's half": {"ACFunApplyAdapters": {"strength": 0.0}},
    "the model's half": {"ACFunApplyEmbedding": {"strength": 0.0}},
    "both": {},
}
CARDS = {
    TRAINS: Card((STYLE, FACE), RESULT),
    "2 Apply a saved style": Card((STYLE, FACE), RESULT),
    "3 Both halves apart": Card(
        (STYLE, FACE), tuple((caption, "Styled image") for caption in HALVES), HALVES
    ),
    "4 A style over an image": Card(
        (STYLE, ("image", FACE[1])),
        tuple((f"denoise {d}", f"At denoise {d}") for d in (0.3, 0.5, 0.7)),
    ),
    "5 Only the face of an image": Card((STYLE, ("image", FACE[1]), MASK), RESULT),
    "6 Background more than the face": Card((STYLE, ("image", FACE[1]), MASK), RESULT),
    "7 Two people in two styles": Card((STYLE, ("other style", OTHER_STYLE)), (("mask", "Left"),)),
    "8 With a ControlNet": Card((STYLE, ("composition", OTHER_FACE)), (("its edges", "Edges"),)),
    "9 With a LoRA and upscaling": Card((STYLE, FACE), ()),
    "10 Blend two styles": Card((STYLE, ("other style", OTHER_STYLE)), RESULT),
    "11 Scheduled by hooks": Card((STYLE, FACE), RESULT),
    "12 Train on a face spliced from two": Card(
        (FACE, ("other face", OTHER_FACE), MASK), (("spliced", "Spliced face"),)
    ),
    "13 Show us a sheet of strengths": Card((), (("", "Sheet"),)),
    "14 A face in a style.app": Card((STYLE, FACE), RESULT),
    "15 Train on Z-Image": Card((STYLE, FACE), (), foot=UNSEEN.format("Z-Image")),
    "16 Train on Flux.2 klein": Card((STYLE, FACE), (), foot=UNSEEN.format("Flux.2 klein")),
}


def main(names: list[str]) -> None:
    """Train the two styles, then draw the cards and the help pages' sheet."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        write_small_prior_lora(models / "loras" / MODEL_FILES["loras"], PRIOR)
        server = new_server(models)
        link_small_prior(server)
        put_examples(server)
        for name in ("style", "face"):
            shutil.copy(
                PRIOR.parent / "demo" / f"{name}.png", server.input_dir / f"demo_{name}.png"
            )
        with server:
            train_styles(server)
            for name in names:
                draw(server, name)


def train_styles(server: ComfyServer) -> None:
    """Save the style of the example images, and a second one of the demo's pair."""
    prompt = prompt_of(server, TRAINS)
    first = changed(prompt, "ACFunSaveStyle", filename_prefix=STYLE_FILE.split("_0")[0])
    server.run(first, timeout=1800)
    other = changed(prompt, "ACFunSaveStyle", filename_prefix=OTHER_STYLE_FILE.split("_0")[0])
    other = changed(other, "Style picture", image="demo_style.png")
    other = changed(other, "Face photo", image="demo_face.png")
    other[node_id(other, "ACFunTrainStyle")]["inputs"]["prompt"] = OTHER_TEXT
    server.run(other, timeout=1800)


def prompt_of(server: ComfyServer, name: str) -> Prompt:
    """Return the prompt of a workflow on the prior."""
    prompt = with_small_prior(to_prompt(load_workflow(name), server.object_info()))
    for content in prompt.values():
        if content["_meta"]["title"] in ("Right style", "Second style"):
            content["inputs"]["style_file"] = OTHER_STYLE_FILE
    return prompt


def draw(server: ComfyServer, name: str) -> None:
    """Run a workflow and write its card."""
    card = CARDS[name]
    above = [(caption, Image.open(path).convert("RGB")) for caption, path in card.above]
    below = []
    for caption, title in card.below:
        prompt = prompt_of(server, name)
        for changed_node, inputs in card.inputs.get(caption, {}).items():
            prompt = changed(prompt, changed_node, **inputs)
        shown = node_id(prompt, title)
        if prompt[shown]["class_type"] == "MaskComposite":
            prompt["mask"] = node("MaskToImage", mask=[shown, 0])
            shown = "look"
            prompt[shown] = node("PreviewImage", images=["mask", 0])
        history = server.run(prompt, timeout=1800)
        image = server.images(history, shown)[0]
        below.append((caption, Image.fromarray(image)))
    path = WORKFLOWS_DIR / f"{name}.jpg"
    compose(above, below, card.foot).save(path, quality=85, optimize=True)
    if name == "13 Show us a sheet of strengths":
        sheet = below[0][1]
        large = sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.LANCZOS)
        large.save(IMAGES_DIR / "style_sheet.jpg", quality=85)
    log.info("%s: %d kB", path.name, path.stat().st_size // 1000)


def compose(
    above: list[tuple[str, Image.Image]], below: list[tuple[str, Image.Image]], foot: str
) -> Image.Image:
    """Return the square card: what goes in above, what comes out below, as large as fits."""
    card = Image.new("RGB", (SIDE, SIDE), (32, 32, 36))
    top = place_row(card, above, 0, ROW if below else SIDE - FOOT) if above else 0
    if below:
        place_row(card, below, top, SIDE - FOOT - top)
    write(card, foot, (SIDE // 2, SIDE - 4), 14)
    return card


def place_row(
    card: Image.Image, images: list[tuple[str, Image.Image]], top: int, height: int
) -> int:
    """Place images side by side in the middle of a row; return where the next row begins."""
    shape = images[0][1]
    room = (SIDE - GAP * (len(images) - 1)) // len(images)
    scale = min(room / shape.width, height / shape.height)
    width, tall = round(shape.width * scale), round(shape.height * scale)
    left = (SIDE - len(images) * (width + GAP) + GAP) // 2
    top += (height - tall) // 2
    for caption, image in images:
        card.paste(image.resize((width, tall), Image.Resampling.LANCZOS), (left, top))
        write(card, caption, (left + width // 2, top + tall - 8), 22)
        left += width + GAP
    return top + tall + GAP


def write(card: Image.Image, text: str, place: tuple[int, int], size: int) -> None:
    """Write light text with a dark edge, its foot's middle at a place."""
    ImageDraw.Draw(card).text(
        place,
        text,
        (255, 255, 255),
        ImageFont.load_default(size),
        anchor="ms",
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(sys.argv[1:] or workflow_names())
