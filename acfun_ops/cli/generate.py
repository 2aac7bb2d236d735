"""The command ``generate``: pictures with a trained style."""

from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

from ..backbones.pipeline_parts import load_text_to_image
from ..errors import ACFunError
from ..image_files import check_picture_name, write_picture
from ..method.injection import PartStrengths
from ..output_places import check_place
from ..pseudo_word import has_pseudo_word
from ..sampling.generate import Drawing
from ..sampling.styled_pipeline import sample_image, styled
from ..style.style_file import load_style
from .pipeline import chosen_device, chosen_dtype
from .terminal import Progress, note, say


def run(options: Namespace) -> int:
    """Draw and save pictures, and return the exit code.

    Raises:
        ACFunError: a mistake in the options, style or pipeline.
    """
    check_picture_name(options.out)
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
    device = chosen_device(options.device)
    pipeline = load_text_to_image(options.model, device, chosen_dtype(options.precision, device))
    strengths = asdict(first.strengths)
    with styled(pipeline, style, abstract=first.strength, **strengths) as encode:
        embeddings = encode(first.prompt, first.negative)
        for seed in range(first.seed, first.seed + options.count):
            drawing = replace(first, seed=seed)
            with Progress(f"seed {seed}", drawing.steps) as progress:
                picture = sample_image(pipeline, embeddings, drawing, progress.step)
            path = _path(options.out, seed, options.count)
            write_picture(picture, path)
            say(f"Saved {path}")
    return 0


def _path(out: Path, seed: int, count: int) -> Path:
    return out if count == 1 else out.with_name(f"{out.stem}_seed{seed}{out.suffix}")
