"""The pictures of a training run, each encoded once, and the facts that name the run."""

import json
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from .. import __version__
from ..backbones.backbone import Backbone
from ..images import picture_hash, prepare_mask, prepare_pictures
from ..style.style import FORMAT, StyleFacts
from .checkpoint import run_of
from .config import TrainConfig
from .events import TrainPictures

# What may differ between two parts of one run.
_NOT_IN_RUN = ("steps", "preview_every", "gradient_checkpointing")


@dataclass(frozen=True, kw_only=True)
class EncodedPair:
    """Latents and tokens on the backbone's device."""

    style: Tensor
    """U-Net latents ``(b, c, h, w)``, one per style picture."""
    face: Tensor
    """U-Net latents ``(b, c, h, w)``, one per face photo."""
    face_mask: Tensor | None
    """``(b, 1, h, w)``, one per face photo, each with mean 1."""
    style_tokens: Tensor
    """CLIP image tokens ``(n, di)`` of all style pictures, float32."""
    facts: StyleFacts
    """Of the style to come, at step 0."""


def encode_pair(
    backbone: Backbone, pictures: TrainPictures, config: TrainConfig, dtype: torch.dtype
) -> EncodedPair:
    """Check, crop and encode the pictures of a run, each of them once.

    Args:
        backbone: encodes.
        pictures: as the user gave them.
        config: of the run.
        dtype: what the U-Net will compute in; it names the run.

    Raises:
        ACFunError: the pictures are unusable.
    """
    side = config.resolution or backbone.native_side
    style = prepare_pictures(pictures.style, side, "style_image")
    face = prepare_pictures(pictures.face, side, "face_image")
    style_latents = backbone.encode_pictures(style).to(backbone.device)
    face_latents = backbone.encode_pictures(face).to(backbone.device)
    mask = None
    if pictures.face_mask is not None:
        mask = prepare_mask(pictures.face_mask, pictures.face, face_latents.shape[-1])
        mask = mask.expand(len(face), -1, -1, -1).to(backbone.device)
    hashes = [
        picture_hash(style),
        picture_hash(face),
        "" if mask is None else picture_hash(mask / mask.amax()),
    ]
    settings = {k: v for k, v in asdict(config).items() if k not in _NOT_IN_RUN}
    settings |= {"resolution": side, "precision": str(dtype).removeprefix("torch.")}
    return EncodedPair(
        style=style_latents,
        face=face_latents,
        face_mask=mask,
        style_tokens=backbone.style_tokens(style).flatten(0, 1).float().to(backbone.device),
        facts=_facts(backbone, config, settings, hashes),
    )


def _facts(
    backbone: Backbone,
    config: TrainConfig,
    settings: dict[str, float | int | str],
    hashes: list[str],
) -> StyleFacts:
    named = json.dumps([settings, hashes, backbone.fingerprint], sort_keys=True)
    return StyleFacts(
        format=FORMAT,
        family=backbone.family,
        prompt=config.prompt,
        pseudo_word=config.pseudo_word,
        heads=config.heads,
        insert_at=config.insert_at,
        statistics=config.statistics,
        steps=0,
        seed=config.seed,
        settings={k: v for k, v in settings.items() if k not in ("prompt", "seed")},
        style_hash=hashes[0],
        checkpoint=backbone.fingerprint,
        run=run_of(named),
        parent="",
        version=__version__,
    )
