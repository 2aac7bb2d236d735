"""The command ``generate``: pictures with a trained style."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict, replace
from pathlib import Path

from ..backbones.pipeline_parts import load_text_to_image
from ..errors import ACFunError
from ..file_io import check_place
from ..image_files import check_image_name, write_image
from ..method.injection import PartStrengths
from ..pseudo_word import has_pseudo_word
from ..sampling.generate import Drawing
from ..sampling.styled_pipeline import sample_image, styled
from ..style.style_file import load_style
from ..training.config import CHOICES
from .pipeline import add_path, add_pipeline, choose_device, choose_dtype
from .terminal import Progress, note, say

EXAMPLES = """examples:
  %(prog)s --model ./stable-diffusion-v1-5 --style-file my.safetensors \\
      --prompt "A painting of a woman in S* style, autumn leaves" --out out.png
  %(prog)s ... --count 4 --seed 10 --decoder-strength 0.5

Prompts are taken literally: (word:1.2) has no meaning here."""


def add_options(command: ArgumentParser) -> None:
    """Add the options of ``generate``."""
    add_pipeline(command, has_image_encoder=False)
    add_path(command, "--style-file", "FILE", "a trained style", required=True)
    command.add_argument("--prompt", required=True, help="any prompt; S* in it names the style")
    add_path(command, "--out", "FILE", "the picture: .png, .jpg or .webp", required=True)
    command.add_argument("--negative", default="", metavar="PROMPT", help="what to stay away from")
    command.add_argument(
        "--precision", choices=CHOICES["precision"], default="auto", help="of the model"
    )
    for name, default, text in (
        ("seed", 0, "seed of the first picture"),
        ("count", 1, "pictures, each with the next seed, which then stands in its name"),
        ("steps", 30, "steps of the pipeline's own scheduler"),
        ("size", 0, "side in pixels, a multiple of 8; 0 takes the model's own"),
        ("guidance", 7.0, "how closely to follow the prompt; 1 is off"),
        ("strength", 1.0, "of the whole style: 0 is off, 1 as trained"),
        ("abstract-strength", 1.0, "of AFun: deformation, layout, atmosphere"),
        ("encoder-strength", 1.0, "of CFun in the encoder: strokes and texture"),
        ("middle-strength", 1.0, "of CFun in the middle"),
        (
            "decoder-strength",
            1.0,
            "of CFun in the decoder: structure and pose of the face, colours",
        ),
        ("block-strengths", "", "of CFun's single blocks, such as output_blocks.0=0.5"),
    ):
        command.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{text} (default: {default!r})"
        )


def run(options: Namespace) -> int:
    """Draw and save pictures, and return the exit code.

    Raises:
        ACFunError: a mistake in the options, style or pipeline.
    """
    check_image_name(options.out)
    if options.count < 1:
        raise ACFunError(f"count is {options.count}; expected 1 or more.")
    check_place(_path(options.out, options.seed, options.count), "picture")
    first = Drawing(
        prompt=options.prompt,
        negative=options.negative,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
        size=options.size,
        strength=options.strength * options.abstract_strength,
        strengths=PartStrengths(
            encoder=options.encoder_strength,
            middle=options.middle_strength,
            decoder=options.decoder_strength,
        ).scale(options.strength),
    )
    style = load_style(options.style_file)
    word = style.facts.pseudo_word
    if not has_pseudo_word(first.prompt, word):
        note(f"note: The prompt does not name the style; {word} in it gives more of the style.")
    device = choose_device(options.device)
    pipeline = load_text_to_image(options.model, device, choose_dtype(options.precision, device))
    strengths = asdict(first.strengths) | {"block_strengths": options.block_strengths}
    with styled(pipeline, style, abstract=first.strength, **strengths) as encode:
        embeddings = encode(first.prompt, first.negative)
        for seed in range(first.seed, first.seed + options.count):
            drawing = replace(first, seed=seed)
            with Progress(f"seed {seed}", drawing.steps) as progress:
                picture = sample_image(pipeline, embeddings, drawing, progress.step)
            path = _path(options.out, seed, options.count)
            write_image(picture, path)
            say(f"Saved {path}")
    return 0


def _path(out: Path, seed: int, count: int) -> Path:
    return out if count == 1 else out.with_name(f"{out.stem}_seed{seed}{out.suffix}")
