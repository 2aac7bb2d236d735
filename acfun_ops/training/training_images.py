"""The pictures of a training run, each encoded once, and the facts that name the run."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from .. import __version__
from ..backbones.backbone import Backbone
from ..errors import ACFunError
from ..images import (
    at_most,
    check_pictures,
    picture_hash,
    prepare_mask,
    prepare_pictures,
    single_pictures,
)
from ..method.alignment_loss import SETTINGS, AlignmentSettings
from ..style.style import FORMAT, StyleFacts
from .checkpoint import run_of
from .config import TrainConfig
from .events import TrainPictures

VAE_OVERFLOWS = (
    "The VAE gives values that are not finite for these pictures, as SDXL's does in half "
    "precision. Run it in fp32 or bf16 (ComfyUI without --fp16-vae), or use a VAE made for half "
    "precision."
)
IMAGE_ENCODER_OVERFLOWS = (
    "CLIP vision gives values that are not finite for the style picture. Use another CLIP vision "
    "model, or run it in fp32."
)
TEXT_ENCODER_OVERFLOWS = (
    "The text encoder gives values that are not finite for the training prompt. Run it in another "
    "precision (fp32 or bf16), or use the CLIP of another checkpoint."
)
RESTYLING_OVERFLOWS = (
    "Redrawing the face in the style gave values that are not finite. Set precision to bf16 or "
    "fp32, or choose staged at alignment."
)
MAX_STYLE_PICTURES = 8
MAX_STYLE_NUMBERS = 600 * 1024
"""In the tokens of a style: with 600 tokens of ViT-L/14 at rank 32, one of SD1.5 is below 8 MB."""

# What may differ between two parts of one run.
_NOT_IN_RUN = ("steps", "preview_every", "gradient_checkpointing")


@dataclass(frozen=True, kw_only=True)
class PreparedPair:
    """The squares that a run is trained on."""

    style: Tensor
    """``(b, s, s, 3)`` in [0, 1] on the CPU."""
    face: Tensor
    """``(b, s, s, 3)`` in [0, 1] on the CPU."""
    given: TrainPictures
    """As the user gave them."""
    settings: AlignmentSettings
    """Of the method."""
    facts: StyleFacts
    """Of the style to come, at step 0."""


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
    settings: AlignmentSettings
    """Of the method."""
    facts: StyleFacts
    """Of the style to come, at step 0."""

    @property
    def combinations(self) -> list[tuple[int, int]]:
        """Style pictures with face photos, by index: each of them at least once."""
        styles, faces = len(self.style), len(self.face)
        return [(k % styles, k % faces) for k in range(max(styles, faces))]

    def combination(self, style: int, face: int) -> int:
        """Return which of the ``combinations`` is nearest to a style picture with a face photo."""
        both = self.combinations
        # Those that are left out would each cost as much as many steps; the face matters most.
        found = (style, face) if (style, face) in both else next(c for c in both if c[1] == face)
        return both.index(found)


def prepare_pair(
    backbone: Backbone,
    pictures: TrainPictures,
    config: TrainConfig,
    dtype: torch.dtype,
    method: AlignmentSettings = SETTINGS,
) -> PreparedPair:
    """Check and crop the pictures of a run, and name it; nothing is encoded.

    Of more than ``MAX_STYLE_PICTURES`` style pictures that many are used, evenly spread; of the
    face photos all.

    Args:
        backbone: what is trained on; its fingerprint names the run.
        pictures: as the user gave them.
        config: of the run.
        dtype: what the U-Net will compute in; it names the run.
        method: settings of the method; those that differ from release 0.2.0's name the run.

    Raises:
        ACFunError: the pictures are unusable.
    """
    side = config.resolution or backbone.native_side
    check_pictures(pictures.style, "style_image")
    styles = single_pictures(pictures.style)
    style = prepare_pictures(at_most(styles, MAX_STYLE_PICTURES), side, "style_image")
    face = prepare_pictures(pictures.face, side, "face_image")
    hashes = [picture_hash(style), picture_hash(face), ""]
    if pictures.face_mask is not None:
        mask = prepare_mask(pictures.face_mask, pictures.face, side)
        hashes[2] = picture_hash(mask / mask.amax())
    settings = {k: v for k, v in asdict(config).items() if k not in _NOT_IN_RUN}
    settings |= {"resolution": side, "precision": str(dtype).removeprefix("torch.")}
    settings |= method.changes()
    return PreparedPair(
        style=style,
        face=face,
        given=pictures,
        settings=method,
        facts=_facts(backbone, config, settings, hashes),
    )


def encode_pair(backbone: Backbone, pair: PreparedPair) -> EncodedPair:
    """Encode the pictures of a run, each of them once.

    Args:
        backbone: that the pair was prepared for.
        pair: of :func:`prepare_pair`.

    Raises:
        ACFunError: the mask is empty in the square that is trained on, or a model gives values
            that are not finite.
    """
    style_latents = backbone.encode_pictures(pair.style).to(backbone.device)
    face_latents = backbone.encode_pictures(pair.face).to(backbone.device)
    check_finite((style_latents, face_latents), VAE_OVERFLOWS)
    mask = None
    if pair.given.face_mask is not None:
        mask = prepare_mask(pair.given.face_mask, pair.given.face, face_latents.shape[-1])
        mask = mask.to(backbone.device)
    tokens = fewer_tokens(backbone.style_tokens(pair.style).float())
    check_finite((tokens,), IMAGE_ENCODER_OVERFLOWS)
    return EncodedPair(
        style=style_latents,
        face=face_latents,
        face_mask=mask,
        style_tokens=tokens.to(backbone.device),
        settings=pair.settings,
        facts=pair.facts,
    )


def check_finite(tensors: Iterable[Tensor | None], sentence: str) -> None:
    """Look at what a model made where it made it, before a loss is not finite for another reason.

    Raises:
        ACFunError: one of them holds NaN or infinity; ``sentence`` says whose they are.
    """
    if not all(tensor is None or bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise ACFunError(sentence)


def fewer_tokens(tokens: Tensor) -> Tensor:
    """Return the tokens of all style pictures in a row, averaged where they would be too many.

    The tokens go into the style's file. Above ``MAX_STYLE_NUMBERS`` each picture's patches are
    averaged 2 x 2 until they fit; its class token, if it has one, stays. Tokens that are no such
    grid of patches, as those of encoders with register tokens, are never averaged. Not of the
    paper, which has one style picture.

    Args:
        tokens: ``(b, n, di)``: n a square number of patches, or one more with a class token first.

    Returns:
        ``(m, di)``, at most ``MAX_STYLE_NUMBERS`` numbers where the patches allow it.
    """
    grid = math.isqrt(tokens.shape[1])
    first = tokens.shape[1] - grid**2  # 1 with a class token, 0 without; else no grid of patches.
    while tokens.numel() > MAX_STYLE_NUMBERS and first <= 1 and grid > 1:
        tokens, grid = _pooled(tokens, first, grid // 2), grid // 2
    return tokens.flatten(0, 1)


def _pooled(tokens: Tensor, first: int, side: int) -> Tensor:
    """Return tokens ``(b, n, di)`` with their patches averaged to ``side`` x ``side``."""
    grid = math.isqrt(tokens.shape[1] - first)
    patches = rearrange(tokens[:, first:], "b (h w) d -> b d h w", h=grid)
    patches = rearrange(F.adaptive_avg_pool2d(patches, side), "b d h w -> b (h w) d")
    return torch.cat([tokens[:, :first], patches], dim=1)


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
