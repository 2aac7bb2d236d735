"""Draws the README's first picture: what the toy prior draws of a few pairs.

python -m evaluation.first_picture
"""

import tempfile
from pathlib import Path

import torch

from acfun_ops.contact_sheet import SheetRow, contact_sheet
from acfun_ops.image_files import to_image

from .methods.acfun import Acfun
from .pairs import Sampling
from .toy_benchmark import CONFIG, open_bench

PATH = Path(__file__).resolve().parents[1] / "web" / "pictures" / "pairs.jpg"
PAIRS = (0, 1, 3, 8)
SAMPLES, SIDE = 2, 144
COLUMNS = ("style", "face", "true answer", "drawn from noise", "", "with another prompt")


def main() -> None:
    """Train on each pair, draw it, and write the sheet."""
    bench = open_bench(max(PAIRS) + 1)
    method, sampling = Acfun(config=CONFIG), Sampling(steps=20, guidance=2.0)
    side = bench.backbone.native_side
    shape = bench.backbone.encode_pictures(torch.zeros(1, side, side, 3)).shape[1:]
    noise = torch.randn(SAMPLES, *shape, generator=torch.Generator().manual_seed(0))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for index in PAIRS:
            pair, learnt = bench.pairs[index], Path(folder) / f"{index}.safetensors"
            method.learn(bench.backbone, pair, CONFIG.steps, learnt)
            drawn, other = method.draw(bench.backbone, pair, learnt, noise, sampling)
            pictures = [pair.style, pair.face, bench.truths[index], *drawn, other[0]]
            images = [to_image(picture[None]) for picture in pictures]
            rows.append(SheetRow(pair.other_prompt, images))
    PATH.parent.mkdir(exist_ok=True)
    contact_sheet(COLUMNS, rows, SIDE).save(PATH, quality=80)


if __name__ == "__main__":
    main()
