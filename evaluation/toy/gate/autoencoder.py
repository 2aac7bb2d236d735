"""What the gate asks of the autoencoder: strokes and faces survive, and AdaIN does not win."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.method.alignment_loss import match_statistics
from evaluation.metrics.image_statistics import texture_distance

from ..drawings import SEED
from ..evaluation_pairs import DISTRACTORS, HeldOutPair, make_pairs
from ..paintings import photograph
from ..people import draw_person, draw_pose, stranger
from ..reader import Reader, identity

PAIRS = 36
PHOTOS = 60


def texture_shares(backbone: DiffusersBackbone) -> dict[str, float]:
    """Return what the autoencoder does to strokes, on held-out pairs.

    That is the mean texture distances to the style picture of the truth, of the truth through the
    autoencoder, of the photo, and of the photo's latents in the channel statistics of the style
    picture's (AdaIN); and what shares of the way from the photo to the truth are given back by the
    autoencoder and covered by AdaIN.
    """
    pairs = make_pairs(PAIRS)

    def mean_distance(pictures: Sequence[np.ndarray]) -> float:
        distances = [
            texture_distance(p, pair.style) for p, pair in zip(pictures, pairs, strict=True)
        ]
        return float(np.mean(distances))

    truths, photos, styles = (
        _stack(pairs, pick) for pick in (lambda p: p.truth, lambda p: p.face, lambda p: p.style)
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


def _stack(pairs: Sequence[HeldOutPair], pick: Callable[[HeldOutPair], np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack([pick(pair) for pair in pairs]))
