"""ACFun alone on one photo and one painting, for whoever has weights.

    python -m evaluation real --try MODEL --face photo.jpg --style painting.jpg

Trains with the defaults, samples three seeds and a second prompt, and writes ``try.jpg``, a strip,
and ``try.json``: settings, versions, card and times, no image. Says first how long it will take.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import diffusers
import torch

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone, load_pipeline
from acfun_ops.contact_sheet import SheetRow, contact_sheet
from acfun_ops.file_io import write_whole
from acfun_ops.image_files import to_pil
from acfun_ops.method.alignment_loss import SETTINGS
from acfun_ops.style.result_text import result_text
from acfun_ops.style.style_file import load_style
from acfun_ops.training.config import TrainConfig

from .benchmark import STYLE_WORD, Pair, Sampling, Task
from .methods.acfun import Acfun
from .methods.peers import encode_square
from .real_benchmark import add_device_options, read_square, real_pair
from .sheets import write_sheet

CONFIG = TrainConfig()
SAMPLING = Sampling(steps=30, guidance=5.0)
SEEDS = (1, 2, 3)
SIDE = 256
GRADIENT_PASSES = 2.2
"""What a step with a gradient costs, in passes through the U-Net (``performance/speed.py``)."""
FORM = "https://github.com/acfun-comfy/ComfyUI-ACFun/issues/new?template=results.yml"

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line behind ``real``."""
    made = argparse.ArgumentParser(
        prog="python -m evaluation real", description="ACFun alone, on one photo and one painting."
    )
    made.add_argument("--try", dest="model", type=Path, required=True, help="a diffusers folder")
    made.add_argument("--face", type=Path, required=True, help="a photo: yours, or one you may use")
    made.add_argument("--style", type=Path, required=True, help="a painting")
    made.add_argument("--who", default="a person", help='who it is: "a woman with red hair"')
    made.add_argument("--results", type=Path, default=Path("out/try"))
    add_device_options(made)
    return made


def main(arguments: Sequence[str]) -> None:
    """Train, sample and write.

    Raises:
        ACFunError: the model or an image is unusable.
    """
    options = parser().parse_args(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    dtype = getattr(torch, options.dtype)
    backbone = load_pipeline(options.model, options.image_encoder, options.device, dtype)
    painting, photo = (
        read_square(path, backbone.native_side) for path in (options.style, options.face)
    )
    pair = real_pair("try", photo, painting, options.who)
    passes = count_passes()
    expected = passes * seconds_of_a_pass(backbone, pair) / 60
    log.warning("%d passes through the U-Net: about %.0f minutes.", passes, expected)
    method, learnt = Acfun(config=CONFIG), options.results / "try.safetensors"
    started = time.perf_counter()
    method.learn(backbone, pair, CONFIG.steps, learnt)
    trained = time.perf_counter()
    shape = encode_square(backbone, photo).shape[1:]
    noise = torch.cat([torch.randn((1, *shape), generator=_generator(seed)) for seed in SEEDS])
    task = Task(backbone, pair, learnt, noise, SAMPLING)
    images = method.draw(task, pair.prompt)
    other = method.draw(replace(task, noise=noise[:1]), pair.other_prompt)
    seconds = {"training": trained - started, "images": time.perf_counter() - trained}
    columns = ["style", "face", *(f"seed {seed}" for seed in SEEDS), "with a hat"]
    strip = [painting, photo, *images, *other]
    row = SheetRow(pair.prompt, [to_pil(image[None]) for image in strip])
    write_sheet(contact_sheet(columns, [row], SIDE), options.results / "try.jpg")
    sampling = {"steps": SAMPLING.steps, "cfg": SAMPLING.guidance, "seeds": SEEDS}
    text = result_text(
        load_style(learnt), backbone.device, sampling, seconds, diffusers=diffusers.__version__
    )
    write_whole(text.encode(), options.results / "try.json", "results")
    log.warning("%s holds try.jpg and try.json. Show us: %s", options.results, FORM)


def count_passes() -> int:
    """Return how many images of one batch go through the U-Net in all."""
    training = CONFIG.steps * 2 * GRADIENT_PASSES
    # Both images are inverted, and the face is redrawn under guidance.
    redrawing = SETTINGS.redrawing.steps * (2 + 2)
    return round(training + redrawing + (len(SEEDS) + 1) * SAMPLING.steps * 2)


@torch.no_grad()
def seconds_of_a_pass(backbone: DiffusersBackbone, pair: Pair) -> float:
    """Return how long one image takes through the U-Net, after a first pass that is not counted."""
    latent = encode_square(backbone, pair.face)
    context = backbone.encode_prompt("", STYLE_WORD, {})
    for _ in range(2):
        started = time.perf_counter()
        float(backbone.denoise(latent, 1.0, context).sum())  # Waits for the card.
    return time.perf_counter() - started


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
