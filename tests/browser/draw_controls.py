"""Makes the images of docs and help that the toy model generates in ComfyUI, but the style sheet.

    python tests/browser/draw_controls.py [strength balance ... load_style first_run]

One for each control, from left to right; ``load_style``, what Load ACFun Style shows in the page;
``first_run``, the page after a run of the first template. Without names it makes all.
"""

from __future__ import annotations

import io
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests" / "nodes" / "support"), str(ROOT / "tests" / "browser"), str(ROOT)]

log = logging.getLogger("draw-controls")

import numpy as np  # noqa: E402
from comfy_graphs import PromptGraph, node  # noqa: E402
from comfy_page import SETTLE, ComfyPage  # noqa: E402
from comfy_server import ComfyServer, History, failure_text  # noqa: E402
from page_setup import BROWSERS, MODEL_FILES, PAGE, SETTINGS  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402
from small_prior_graphs import (  # noqa: E402
    SIDE,
    enlarged,
    link_small_prior,
    put_examples,
    with_small_prior,
)
from workflow_prompts import load_workflow, to_prompt  # noqa: E402

from acfun_ops.contact_sheet import SheetRow, contact_sheet  # noqa: E402
from acfun_ops.training.config import TrainConfig  # noqa: E402
from evaluation.comfyui_host import new_server  # noqa: E402
from evaluation.toy.draw_examples import SITTER, SITTER_POSE  # noqa: E402
from evaluation.toy.paintings import paint  # noqa: E402
from evaluation.toy.people import draw_person, draw_pose  # noqa: E402
from evaluation.toy.styles import HELD_OUT  # noqa: E402

PICTURES_DIR = ROOT / "web" / "pictures"
FIRST_RUN = ROOT / "docs" / "images" / "first-run.jpg"
FIRST_TEMPLATE = "1 Train a style and apply it"
CLIENT = "() => window.comfyAPI.api.api.clientId"
TEXT = "A painting of a woman with long red hair and glasses in S* style"
OTHER_STYLE = "sunset brush"
SEED, CELL, PREVIEW_SIDE = 1, 144, 384
TRAINED = {
    name: field.default
    for name, field in TrainConfig.__dataclass_fields__.items()
    if "research" not in field.metadata
}
CHECKPOINT = node("CheckpointLoaderSimple", ckpt_name="")  # The prior takes its place.
WHOLE, ADAPTERS, BLEND = "ACFunApplyStyle", "ACFunApplyAdapters", "ACFunBlendStyles"
BASE: dict[str, dict[str, Any]] = {
    WHOLE: {"text": TEXT, "strength": 1.0, "balance": 0.5},
    ADAPTERS: {
        **{f"{part}strength": 1.0 for part in ("", "encoder_", "middle_", "decoder_")},
        "start_percent": 0.0,
        "end_percent": 1.0,
    },
    BLEND: {"mode": "blend"},
}
HAS_RESULT = "() => app.graph._nodes.some((n) => n.type === 'SaveImage' && n.imgs?.length)"
BOX = """() => {
    const [node] = app.graph._nodes, { left, top } = app.canvas.canvas.getBoundingClientRect();
    const [x, y, width, height] = node.boundingRect;
    return { x: left + x - 8, y: top + y - 8, width: width + 16, height: height + 16 };
}"""


@dataclass(frozen=True)
class Strip:
    """A control of a node, and the values that are drawn, with their labels."""

    node: str
    control: str
    values: Sequence[Any]
    labels: Sequence[str] = ()


STRIPS = {
    "strength": Strip(WHOLE, "strength", (0.0, 0.5, 1.0, 1.5)),
    "balance": Strip(WHOLE, "balance", (0.0, 0.25, 0.5, 0.75, 1.0)),
    "mask": Strip(
        WHOLE, "mask", (None, ["oval", 0], ["around", 0]), ("no mask", "an oval", "around it")
    ),
    "decoder_strength": Strip(ADAPTERS, "decoder_strength", (0.0, 0.5, 1.0, 1.5)),
    "ratio": Strip(BLEND, "ratio", (0.0, 0.25, 0.5, 0.75, 1.0)),
}


def main(names: list[str]) -> None:
    """Train the styles and draw."""
    pages = {"load_style": draw_load, "first_run": draw_first_run}
    names = names or [*STRIPS, *pages]
    with tempfile.TemporaryDirectory() as folder:
        for kind, name in MODEL_FILES.items():
            (Path(folder) / kind).mkdir()
            (Path(folder) / kind / name).touch()
        server = new_server(Path(folder))
        link_small_prior(server)
        with server:
            place_pictures(server)
            server.request("/settings", SETTINGS)
            if names != ["first_run"]:
                server.run(trainings(), timeout=3600)
            for name in names:
                if name in pages:
                    pages[name](server)
                else:
                    save(PICTURES_DIR / f"{name}.jpg", draw(server, STRIPS[name]))


def place_pictures(server: ComfyServer) -> None:
    """Put the examples, and the same sitter in another style, into the input folder."""
    put_examples(server)
    sitter, pose = (
        draw(np.random.default_rng(number))
        for draw, number in ((draw_person, SITTER), (draw_pose, SITTER_POSE))
    )
    painted = paint(sitter, pose, HELD_OUT[OTHER_STYLE].style, SITTER, 512).color
    server.add_input("other_style.png", (painted * 255).round().astype(np.uint8))


def trainings() -> PromptGraph:
    """Return a graph that trains and saves two styles of one face, the first with its picture."""
    models = {name: ["checkpoint", n] for n, name in enumerate(("model", "clip", "vae"))}
    models |= {"clip_vision": ["vision", 0]} | TRAINED | {"prompt": TEXT, "preview_every": 0}
    graph = {
        "checkpoint": CHECKPOINT,
        "vision": node("CLIPVisionLoader", clip_name=""),
        "face": node("LoadImage", image="acfun_face.jpg"),
        "first": node("LoadImage", image="acfun_style.jpg"),
        "second": node("LoadImage", image="other_style.png"),
    }
    for name in ("first", "second"):
        pair = {"style_image": [name, 0], "face_image": ["face", 0]}
        graph[f"{name}_train"] = node("ACFunTrainStyle", **models, **pair)
        graph[f"save_{name}"] = node(
            "ACFunSaveStyle", style=[f"{name}_train", 0], filename_prefix=name
        )
    graph |= sampled("shown", WHOLE, {"style": ["first_train", 0], **BASE[WHOLE]})
    graph = with_small_prior(graph)
    large = {"upscale_method": "lanczos", "crop": "disabled"}
    large |= {"width": PREVIEW_SIDE, "height": PREVIEW_SIDE}
    graph["large"] = node("ImageScale", image=["shown_decode", 0], **large)
    graph["save_first"]["inputs"] |= {"preview": ["large", 0], "license": "Apache-2.0"}
    return graph


def draw(server: ComfyServer, strip: Strip) -> Image.Image:
    """Return a strip's pictures side by side."""
    graph = {
        "checkpoint": CHECKPOINT,
        "oval": node("LoadImageMask", image="acfun_face_mask.png", channel="red"),
        "around": node("InvertMask", mask=["oval", 0]),
        "style": node("ACFunLoadStyle", style_file="first_00001_.safetensors"),
    }
    for number, value in enumerate(strip.values):
        chosen = {**BASE[strip.node], strip.control: value}
        kind, inputs = strip.node, {"style": ["style", 0], **chosen}
        if strip.node == BLEND:
            graph["other"] = node("ACFunLoadStyle", style_file="second_00001_.safetensors")
            both = {"style_a": ["style", 0], "style_b": ["other", 0]}
            graph[f"blend_{number}"] = node(BLEND, **both, **chosen)
            kind, inputs = WHOLE, {"style": [f"blend_{number}", 0], **BASE[WHOLE]}
        given = {name: value for name, value in inputs.items() if value is not None}
        graph |= sampled(str(number), kind, given)
    history = server.run(with_small_prior(graph), timeout=3600)
    pictures = [picture_of(server, history, str(n)) for n in range(len(strip.values))]
    labels = strip.labels or [f"{v:g}" if isinstance(v, float) else v for v in strip.values]
    return contact_sheet(labels, [SheetRow(strip.control, pictures)], CELL)


def sampled(name: str, kind: str, inputs: dict[str, Any]) -> PromptGraph:
    """Return nodes that apply a style by one of the Apply nodes, sample and preview."""
    graph = {}
    models = {"model": ["checkpoint", 0]}
    if kind == ADAPTERS:
        words = {"style": inputs["style"], "clip": ["checkpoint", 1], "text": TEXT, "strength": 1.0}
        graph[f"{name}_words"] = node("ACFunApplyEmbedding", **words)
        positive = [f"{name}_words", 0]
    else:
        models |= {"clip": ["checkpoint", 1]}
        positive = [f"{name}_apply", 1]
    sampler = {"sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, "seed": SEED}
    sampler |= {"steps": 20, "cfg": 7.0}
    return graph | {
        f"{name}_apply": node(kind, **models, **inputs),
        f"{name}_negative": node("CLIPTextEncode", clip=["checkpoint", 1], text=""),
        f"{name}_latent": node("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=1),
        f"{name}_sample": node(
            "KSampler",
            model=[f"{name}_apply", 0],
            positive=positive,
            negative=[f"{name}_negative", 0],
            latent_image=[f"{name}_latent", 0],
            **sampler,
        ),
        f"{name}_decode": node("VAEDecode", samples=[f"{name}_sample", 0], vae=["checkpoint", 2]),
        name: node("PreviewImage", images=[f"{name}_decode", 0]),
    }


def picture_of(server: ComfyServer, history: History, name: str) -> Image.Image:
    """Return what a preview of a run shows."""
    return Image.fromarray(server.images(history, name)[0])


def draw_load(server: ComfyServer) -> None:
    """Save what Load ACFun Style shows of the first style in the page."""
    with open_page(server) as opened:
        page = opened.page
        opened.place("ACFunLoadStyle")
        page.evaluate(
            "() => { app.graph._nodes[0].setSize([420, 480]); app.canvas.deselectAll(); }"
        )
        page.wait_for_function("() => app.graph._nodes[0].imgs?.length")
        page.wait_for_timeout(4 * SETTLE)
        shown = page.screenshot(clip=page.evaluate(BOX))
    save(PICTURES_DIR / "load_style.jpg", Image.open(io.BytesIO(shown)))


def draw_first_run(server: ComfyServer) -> None:
    """Save the page as it stands after a run of the first template on the toy model."""
    prompt = to_prompt(load_workflow(FIRST_TEMPLATE), server.object_info())
    with open_page(server) as opened:
        opened.open_template("acfun", FIRST_TEMPLATE)
        client = opened.page.evaluate(CLIENT)
        run_id = server.queue(enlarged(with_small_prior(prompt)), client)
        failure = failure_text(server.wait(run_id, timeout=3600))
        if failure is not None:
            raise RuntimeError(failure)
        opened.page.wait_for_function(HAS_RESULT)
        opened.page.wait_for_timeout(12 * SETTLE)  # The note on a finished job goes, too.
        shown = opened.page.screenshot()
    save(FIRST_RUN, Image.open(io.BytesIO(shown)))


@contextmanager
def open_page(server: ComfyServer) -> Iterator[ComfyPage]:
    """Yield ComfyUI's page in a headless Chromium."""
    path = next(path for path in map(shutil.which, BROWSERS) if path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(**PAGE)
        opened = ComfyPage(page, server.address, "ACFunLoadStyle")
        opened.open()
        yield opened
        browser.close()


def save(path: Path, picture: Image.Image) -> None:
    """Write an image for README, docs or help."""
    picture.convert("RGB").save(path, quality=80, optimize=True)
    log.info("%s: %d kB", path.name, path.stat().st_size // 1000)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(sys.argv[1:])
