"""Draws the workflows' pictures: the page after a run on the small prior.

    python tests/browser/draw_workflows.py [1 Train a style and apply it ...]

The graph is the workflow's own. What it draws comes from the toy prior, with the sizes and numbers
that the prior needs; a line at the foot of each picture says so.
"""

from __future__ import annotations

import io
import logging
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests" / "nodes" / "support"), str(ROOT / "tests" / "browser"), str(ROOT)]

log = logging.getLogger("draw-workflows")

from comfy_graphs import node  # noqa: E402
from comfy_page import ComfyPage  # noqa: E402
from comfy_server import ComfyServer, failure_text  # noqa: E402
from conftest import BROWSERS, MODEL_FILES, SETTINGS, STYLE_FILE  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402
from small_prior_graphs import (  # noqa: E402
    SAMPLING,
    SIDE,
    TRAINING,
    enlarged,
    link_small_prior,
    with_small_prior,
    write_small_prior_lora,
)
from small_prior_node import PRIOR  # noqa: E402
from workflow_prompts import (  # noqa: E402
    WORKFLOWS_DIR,
    load_workflow,
    node_id,
    to_prompt,
    workflow_names,
)

from evaluation.comfyui_host import new_server  # noqa: E402

PICTURES_DIR = ROOT / "web" / "pictures"
WIDTH, MARGIN, FOOT_HEIGHT = 1600, 20, 20
TRAINS = "1 Train a style and apply it"
OTHER_STYLE_FILE = "other_00001_.safetensors"
OTHER_TEXT = "A painting of a man with short red hair and glasses and beard smiling in S* style"
FOOT = (
    "Drawn by the repository's toy model, not by Stable Diffusion: at 64 pixels, learning rate "
    f"{TRAINING['learning_rate']}, {SAMPLING['steps']} steps, cfg {SAMPLING['cfg']} and without a "
    "negative prompt, whatever the nodes show."
)
# What else a picture leaves out.
FEET = {
    "9 With a ControlNet": "It has no ControlNet: here without.",
    "10 With a LoRA and upscaling": "The LoRA is random, the last step without its model.",
    "12 Scheduled by hooks": "The LoRA is random.",
    "8 Two people in two styles": "One head: it knows no other. Right: the demo's style.",
    "13 Train on a face spliced from two": "It does not make one coherent face of the two.",
}
CLIENT = "() => window.comfyAPI.api.api.clientId"
EXTENT = """() => {
    const boxes = [...app.graph._nodes, ...app.graph._groups].map((item) => item.boundingRect);
    const edges = (n, end) => boxes.map((box) => box[n] + (end ? box[n + 2] : 0));
    return [Math.min(...edges(0)), Math.min(...edges(1)),
            Math.max(...edges(0, true)), Math.max(...edges(1, true))];
}"""
SHOW = """([scale, x, y]) => {
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [x, y];
    app.canvas.show_info = false;
    app.canvas.deselectAll();
    app.canvas.setDirty(true, true);
}"""
BARE = """
    body * { visibility: hidden; }
    #graph-canvas, .dom-widget, .dom-widget * { visibility: visible; }
"""


def main(names: list[str]) -> None:
    """Run and draw the workflows; the first one always, because it makes the style."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        models = Path(folder)
        for kind, name in MODEL_FILES.items():
            (models / kind).mkdir()
            (models / kind / name).touch()
        write_small_prior_lora(models / "loras" / MODEL_FILES["loras"], PRIOR)
        server = new_server(models)
        link_small_prior(server)
        (server.styles_dir / STYLE_FILE).touch()
        for name in ("style", "face"):
            picture = PRIOR.parent / "demo" / f"{name}.png"
            shutil.copy(picture, server.input_dir / f"demo_{name}.png")
        path = next(path for path in map(shutil.which, BROWSERS) if path)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with server:
            server.request("/settings", SETTINGS)
            page = browser.new_page(viewport={"width": WIDTH, "height": 900})
            opened = ComfyPage(page, server.address, "ACFunTrainStyle")
            opened.open()
            draw(opened, server, TRAINS)
            draw_sheet(server)
            train_other(server)
            for name in names:
                draw(opened, server, name)
        browser.close()


def draw(opened: ComfyPage, server: ComfyServer, name: str) -> None:
    """Open a workflow, run it on the prior, and save what the page shows."""
    page, workflow = opened.page, load_workflow(name)
    opened.open_template("acfun", name)
    prompt = to_prompt(workflow, server.object_info())
    if name == TRAINS:
        (server.styles_dir / STYLE_FILE).unlink()  # It is made now.
    for content in prompt.values():
        if content["_meta"]["title"] == "Right style":
            content["inputs"]["style_file"] = OTHER_STYLE_FILE
    run_id = server.queue(enlarged(with_small_prior(prompt)), page.evaluate(CLIENT))
    failure = failure_text(server.wait(run_id, timeout=1800))
    if failure is not None:
        raise RuntimeError(failure)
    left, top, right, bottom = page.evaluate(EXTENT)
    scale = (WIDTH - 2 * MARGIN) / (right - left)
    height = round((bottom - top) * scale) + 2 * MARGIN + FOOT_HEIGHT
    page.set_viewport_size({"width": WIDTH, "height": height})
    style = page.add_style_tag(content=BARE)
    page.evaluate(SHOW, [scale, MARGIN / scale - left, MARGIN / scale - top])
    page.wait_for_timeout(4000)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    style.evaluate("(element) => element.remove()")
    page.set_viewport_size({"width": WIDTH, "height": 900})
    ImageDraw.Draw(picture).text(
        (MARGIN, height - 8),
        f"{FOOT} {FEET.get(name, '')}",
        (200, 200, 200),
        ImageFont.load_default(15),
        anchor="ls",
    )
    path = WORKFLOWS_DIR / f"{name}.jpg"
    picture.save(path, quality=62, optimize=True)
    log.info("%s: %d kB", path.name, path.stat().st_size // 1000)


def train_other(server: ComfyServer) -> None:
    """Save a second style, of the demo's pair."""
    prompt = with_small_prior(to_prompt(load_workflow(TRAINS), server.object_info()))
    for title, name in (("Style picture", "style"), ("Face photo", "face")):
        prompt[node_id(prompt, title)]["inputs"]["image"] = f"demo_{name}.png"
    prompt[node_id(prompt, "ACFunTrainStyle")]["inputs"]["prompt"] = OTHER_TEXT
    save = prompt[node_id(prompt, "ACFunSaveStyle")]["inputs"]
    save["filename_prefix"] = OTHER_STYLE_FILE.removesuffix("_00001_.safetensors")
    server.run(prompt, timeout=1800)


def draw_sheet(server: ComfyServer) -> None:
    """Save what ACFun Style Sheet shows of the first workflow's style."""
    (text,) = {
        node["widgets_values"][0]
        for node in load_workflow(TRAINS)["nodes"]
        if node["type"] == "ACFunApplyEmbedding"
    }
    models = {"model": ["prior", 0], "clip": ["prior", 1], "vae": ["prior", 2]}
    settings = {"sampler_name": "euler", "scheduler": "normal", "negative": "", **SAMPLING}
    settings |= {"text": text, "seed": 1, "seeds": 2, "width": SIDE, "height": SIDE}
    sheet = node("ACFunStyleSheet", style=["style", 0], **models, **settings)
    history = server.run(
        {
            "prior": node("LoadSmallPrior"),
            "style": node("ACFunLoadStyle", style_file=STYLE_FILE),
            "sheet": sheet,
        },
        timeout=1800,
    )
    picture = Image.fromarray(server.images(history, "sheet")[0])
    large = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.LANCZOS)
    large.save(PICTURES_DIR / "style_sheet.jpg", quality=85)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(sys.argv[1:] or workflow_names()[1:])
