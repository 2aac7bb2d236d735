"""The command ``demo``: a style trained on a bundled pair with the toy prior, on one sheet."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from PIL import Image

from ..backbones.backbone import Backbone
from ..backbones.diffusers_backbone import load_pipeline
from ..contact_sheet import SheetRow, contact_sheet
from ..errors import ACFunError
from ..image_files import read_image, to_pil, write_image
from ..images import to_squares
from ..method.injection import PartStrengths
from ..sampling.generate import Drawing, draw_picture
from ..style.style import Style
from ..style.style_file import load_style
from ..training.config import TrainConfig
from ..training.events import TrainImages
from .pipeline import add_path
from .terminal import Progress, say
from .training_run import check_style_path, train_and_save

EXAMPLES = """example:
  %(prog)s

The demo's model is a toy for trying and testing. For pictures, use ComfyUI with an SD checkpoint,
or the commands train and generate with a Stable Diffusion pipeline."""

PROMPT = "a painting of a man with short red hair and glasses and beard smiling in S* style"
OTHER_PROMPTS = (
    "a painting of a man with short red hair and glasses and beard wearing a hat in S* style",
    "a painting of a woman with long blond hair in S* style",
)
TRAINING = TrainConfig(prompt=PROMPT, learning_rate=3e-3, preview_every=0)
SEEDS = (1, 2, 3)
DRAWING = Drawing(prompt=PROMPT, steps=12, guidance=2.0)
SHEET_SIDE = 192

_OFF = PartStrengths(encoder=0, middle=0, decoder=0)
# Column name: strength of AFun, and of CFun by part of the U-Net.
COLUMNS = {
    "abstract only": (1.0, _OFF),
    "encoder only": (0.0, replace(_OFF, encoder=1.0)),
    "decoder only": (0.0, replace(_OFF, decoder=1.0)),
    "full": (1.0, PartStrengths()),
}
TOY = (
    "The demo's model is a toy of 64 pixels, made for trying and testing; it knows drawn faces and "
    "nothing else. For pictures, use ComfyUI with an SD checkpoint, or train --model with a "
    "Stable Diffusion pipeline."
)


def add_options(command: ArgumentParser) -> None:
    """Add the options of ``demo``."""
    text = "folder for the style and the contact sheet (default: acfun_demo)"
    add_path(command, "--out", "DIR", text, default=Path("acfun_demo"))


def run(options: Namespace) -> int:
    """Make the demo with the prior and the pair of this repository; return the exit code.

    Raises:
        ACFunError: they are missing, or the folder cannot be written.
    """
    # An installed package has left the clone; the user may stand in it.
    clones = (Path(__file__).resolve().parents[2], Path.cwd())
    places = [clone / "evaluation" / "toy" for clone in clones]
    return make_demo(next((p for p in places if p.is_dir()), places[0]), options.out)


def make_demo(nano: Path, out: Path) -> int:
    """Train on the demo's pair, save the style, and draw the contact sheet.

    Args:
        nano: holds ``prior``, a diffusers pipeline, and ``demo`` with style.png, face.png and
            truth.png, which is the face in the style.
        out: gets style.safetensors and contact_sheet.png.

    Returns:
        The exit code, see :func:`train_and_save`.

    Raises:
        ACFunError: something is missing, or the folder cannot be written.
    """
    demo = [nano / "demo" / f"{name}.png" for name in ("style", "face", "truth")]
    files = [nano / "prior", *demo]
    missing = [str(path) for path in files if not path.exists()]
    if missing:
        raise ACFunError(
            f"The demo's model and pictures are not here ({missing[0]}): the demo needs a clone of "
            "the repository. Clone it and run the command in its folder."
        )
    say(TOY)
    path = out / "style.safetensors"
    check_style_path(path)
    style_picture, face_picture, truth = map(read_image, demo)
    backbone = load_pipeline(files[0])
    pictures = TrainImages(style=style_picture, face=face_picture)
    code = train_and_save(backbone, pictures, TRAINING, path)
    if code != 0:
        return code
    side = backbone.native_side
    given = [
        to_pil(to_squares(picture, side, path.name))
        for picture, path in zip((style_picture, face_picture, truth), demo, strict=True)
    ]
    rows = _rows(backbone, load_style(path), given)
    sheet = contact_sheet(["style", "face", "true answer", *COLUMNS], rows, SHEET_SIDE)
    write_image(sheet, out / "contact_sheet.png")
    say(f"The contact sheet is at {out / 'contact_sheet.png'}.")
    say(f"Look into the style with: python -m acfun_ops inspect {path}")
    return 0


def _rows(backbone: Backbone, style: Style, given: list[Image.Image]) -> list[SheetRow]:
    wanted = [(f"seed {seed}", replace(DRAWING, seed=seed)) for seed in SEEDS]
    wanted += [(prompt, replace(DRAWING, prompt=prompt, seed=SEEDS[0])) for prompt in OTHER_PROMPTS]
    rows = []
    with Progress("drawing", len(wanted) * len(COLUMNS) * DRAWING.steps) as progress:
        for label, base in wanted:
            style_picture, face, truth = given
            pictures = [style_picture, face, truth if base.prompt == PROMPT else None]
            for strength, strengths in COLUMNS.values():
                drawing = replace(base, strength=strength, strengths=strengths)
                pictures.append(to_pil(draw_picture(backbone, drawing, style, progress.step)))
            rows.append(SheetRow(label, pictures))
    return rows
