"""What the gate asks of the prior: words followed, strokes and faces that survive, no copies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.method.alignment_loss import match_statistics
from acfun_ops.sampling.sampler import Guidance, draw_latents, initial_noise, sampling_sigmas
from evaluation.metrics.image_statistics import texture_distance

from ..captions import PHOTO, describe
from ..drawings import SEED, draw_set, training_drawings
from ..evaluation_pairs import DISTRACTORS, make_pair
from ..paintings import paint, photograph
from ..people import draw_person, draw_pose, stranger
from ..reader import GROUPS, Reader, attributes_of, identity
from ..styles import TEXTURES, WORDS, Named, Texture, draw_style

PAIRS = 36
PHOTOS = 60


def texture_shares(backbone: DiffusersBackbone) -> dict[str, float]:
    """Return what the autoencoder does to strokes, on held-out pairs.

    That is the mean texture distances to the style picture of the truth, of the truth through the
    autoencoder, of the photo, and of the photo's latents in the channel statistics of the style
    picture's (AdaIN); and what shares of the way from the photo to the truth are given back by the
    autoencoder and covered by AdaIN.
    """
    pairs = [make_pair(number) for number in range(PAIRS)]

    def mean_distance(pictures: Sequence[np.ndarray]) -> float:
        distances = [
            texture_distance(p, pair.style) for p, pair in zip(pictures, pairs, strict=True)
        ]
        return float(np.mean(distances))

    truths, photos, styles = (
        torch.from_numpy(np.stack([getattr(pair, name) for pair in pairs]))
        for name in ("truth", "face", "style")
    )
    through = backbone.decode_latents(backbone.encode_pictures(truths)).numpy()
    restyled = match_statistics(backbone.encode_pictures(photos), backbone.encode_pictures(styles))
    truth, photo = mean_distance(truths.numpy()), mean_distance(photos.numpy())
    back, adain = mean_distance(through), mean_distance(backbone.decode_latents(restyled).numpy())
    return {
        "truth": truth,
        "truth through the autoencoder": back,
        "photo": photo,
        "AdaIN on latents": adain,
        "given back": (back - truth) / (photo - truth),
        "AdaIN covers": (photo - adain) / (photo - truth),
    }


def identity_rate(backbone: DiffusersBackbone, reader: Reader) -> float:
    """Return how often a photo through the autoencoder is nearest to itself among 20 others."""
    random = np.random.default_rng(SEED + 5)
    found = []
    for number in range(PHOTOS):
        person, pose = draw_person(random), draw_pose(random)
        people = [person, *(stranger(person, random) for _ in range(DISTRACTORS))]
        line_up = torch.from_numpy(np.stack([photograph(p, pose, number).color for p in people]))
        through = backbone.decode_latents(backbone.encode_pictures(line_up[:1]))
        ours, theirs = (identity(reader.read(p), reader.trust) for p in (through, line_up))
        found.append(int(torch.cdist(ours, theirs).argmin()) == 0)
    return float(np.mean(found))


# A sample this much nearer to a training drawing than any fresh drawing is, is a copy of it.
COPY = 0.5
STEPS, GUIDANCE = 25, 2.0
# Photos that are prompted for, and styles of each family.
PEOPLE, STYLES = 40, 6


def sample(backbone: DiffusersBackbone, prompt: str, generator: torch.Generator) -> Tensor:
    """Sample four images of a prompt ``(4, s, s, 3)``."""
    shape = (4, backbone.unet.config.in_channels, *[backbone.unet.config.sample_size] * 2)
    noise = torch.randn(shape, generator=generator)
    styled, plain = (backbone.encode_prompt(text, "S*", {}) for text in (prompt, ""))
    sigmas = sampling_sigmas(backbone.sigmas, STEPS)
    prompts = Guidance(styled, plain, GUIDANCE)
    latents = draw_latents(backbone, initial_noise(sigmas[0], noise), sigmas, prompts)
    return backbone.decode_latents(latents)


def sample_prompts(
    backbone: DiffusersBackbone, reader: Reader
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Prompt for people in full, as photos and in each kind of painting; read them back.

    Returns:
        By medium the samples ``(n, s, s, 3)``, and by group the share that shows what was asked.
    """
    random = np.random.default_rng(SEED + 2)
    generator = torch.Generator().manual_seed(SEED + 2)
    samples: dict[str, list[Tensor]] = {}
    right: dict[str, list[float]] = {group: [] for group in GROUPS}
    for texture in (None, *TEXTURES):
        for _ in range(PEOPLE if texture is None else PEOPLE // len(TEXTURES) + 1):
            person = draw_person(random)
            named = None if texture is None else draw_style(random, (texture,))
            pictures = sample(backbone, _prompt(describe(person), named), generator)
            reading = reader.read(pictures)
            asked = attributes_of(person) | {"medium": int(named is not None)}
            for group, value in asked.items():
                right[group] += (reading.attributes[group].argmax(dim=1) == value).tolist()
            samples.setdefault(PHOTO if texture is None else WORDS[texture], []).append(pictures)
    drawn = {medium: torch.cat(pictures) for medium, pictures in samples.items()}
    return drawn, {group: float(np.mean(hits)) for group, hits in right.items()}


def stroke_ratios(backbone: DiffusersBackbone) -> dict[str, dict[str, float]]:
    """Return by family how far samples are from true paintings, against how far others are.

    A style is what a prompt says of it. To paintings in styles of the same words are compared:
    other such paintings, and samples of the prompt; of other people, either of them.
    """
    random = np.random.default_rng(SEED + 4)
    generator = torch.Generator().manual_seed(SEED + 4)
    found = {}
    for texture in TEXTURES:
        true: list[float] = []
        own: list[float] = []
        for _ in range(STYLES):
            named = draw_style(random, (texture,))
            targets, others = ([_paint_like(named, random) for _ in range(4)] for _ in range(2))
            words = describe(draw_person(random))
            pictures = sample(backbone, _prompt(words, named), generator).numpy()
            true += [texture_distance(a, b) for a in targets for b in others]
            own += [texture_distance(a, b) for a in targets for b in pictures]
        means = float(np.mean(own)), float(np.mean(true))
        found[WORDS[texture]] = {
            "samples": means[0],
            "other true paintings": means[1],
            "ratio": means[0] / means[1],
        }
    return found


def nearness(samples: Tensor, work: Path) -> dict[str, float]:
    """Return how far samples and fresh drawings are from their nearest training drawing."""
    small = _small(training_drawings(work).images)
    fresh = _small(draw_set(len(samples), SEED + 3).images)
    ours, theirs = (
        torch.cdist(p, small).amin(dim=1)
        for p in (_small((samples.numpy() * 255).round().astype(np.uint8)), fresh)
    )
    return {
        "median of samples": float(ours.median()),
        "least of samples": float(ours.min()),
        "median of fresh drawings": float(theirs.median()),
        "least of fresh drawings": float(theirs.min()),
        "copies": int((ours < COPY * theirs.min()).sum()),
    }


def _prompt(person: str, named: Named | None) -> str:
    if named is None:
        return f"{PHOTO} of {person}"
    return f"{named.words} of {person} in {named.tones} style {named.strokes}".strip()


def _paint_like(named: Named, random: np.random.Generator) -> np.ndarray:
    """Return a true painting of someone in any style that has the same words."""
    texture: Texture = named.style.texture
    while True:
        other = draw_style(random, (texture,))
        if (other.tones, other.strokes) == (named.tones, named.strokes):
            seed = int(random.integers(1 << 31))
            return paint(draw_person(random), draw_pose(random), other.style, seed).color


def _small(pictures: np.ndarray) -> Tensor:
    parts = [
        torch.nn.functional.avg_pool2d(torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255, 4)
        for part in np.array_split(pictures, max(1, len(pictures) // 1000))
    ]
    return torch.cat(parts).flatten(1)
