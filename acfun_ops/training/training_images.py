"""The images of a run, each prepared and encoded once, and the metadata that name the run."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from .. import __version__
from ..backbones.backbone import DTYPES, Backbone
from ..errors import ACFunError
from ..images import (
    check_images,
    crop_images,
    crop_masks,
    image_hash,
    resize_masks,
    subsample_evenly,
)
from ..method.alignment_loss import SETTINGS, AlignmentSettings
from ..model_families import FAMILIES
from ..style.style import FORMAT, OFFSET_FORMAT, StyleFacts
from .checkpoint import run_of
from .config import TrainConfig
from .events import TrainImages
from .image_warnings import image_warnings, pair_warnings

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
class PreparedImages:
    """The squares that a run is trained on."""

    style: Tensor
    """``(b, s, s, 3)`` in [0, 1] on the CPU."""
    face: Tensor
    """``(b, s, s, 3)`` in [0, 1] on the CPU."""
    face_masks: list[Tensor]
    """One per face photo, see :func:`crop_masks`; empty without a mask."""
    warnings: list[str]
    """Sentences about what the user may not have meant."""
    settings: AlignmentSettings
    """Of the method."""
    facts: StyleFacts
    """Of the style to come, at step 0."""


@dataclass(frozen=True, kw_only=True)
class EncodedImages:
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

    def nearest_combination(self, style: int, face: int) -> int:
        """Return which of the ``combinations`` is nearest to a style picture with a face photo."""
        both = self.combinations
        # Those that are left out would each cost as much as many steps; the face matters most.
        found = (style, face) if (style, face) in both else next(c for c in both if c[1] == face)
        return both.index(found)


def compute_dtype(backbone: Backbone, config: TrainConfig) -> torch.dtype:
    """Return what the U-Net computes in during a run."""
    return DTYPES.get(config.precision, backbone.compute_dtype)


def prepare_images(
    backbone: Backbone,
    images: TrainImages,
    config: TrainConfig,
    settings: AlignmentSettings = SETTINGS,
) -> PreparedImages:
    """Validate and crop the images of a run, and name it; nothing is encoded.

    Of more than ``MAX_STYLE_PICTURES`` style pictures that many are used, evenly spread; of the
    face photos all.

    Args:
        backbone: what is trained on; its fingerprint names the run.
        images: as the user gave them.
        config: of the run.
        settings: of the method; those that differ from release 0.2.0's name the run.

    Raises:
        ACFunError: the images are unusable.
    """
    side = config.resolution or backbone.native_side
    styles = check_images(images.style, "style_image")
    faces = check_images(images.face, "face_image")
    used = subsample_evenly(styles, MAX_STYLE_PICTURES)
    style, face = crop_images(used, side), crop_images(faces, side)
    masks = [] if images.face_mask is None else crop_masks(images.face_mask, faces)
    mask = resize_masks(masks, side) if masks else None
    hashes = [image_hash(style), image_hash(face)]
    hashes.append("" if mask is None else image_hash(mask / mask.amax()))
    settings_used = {k: v for k, v in asdict(config).items() if k not in _NOT_IN_RUN}
    dtype = str(compute_dtype(backbone, config)).removeprefix("torch.")
    settings_used |= {"resolution": side, "precision": dtype} | settings.changes()
    named = json.dumps([settings_used, hashes, backbone.fingerprint], sort_keys=True)
    return PreparedImages(
        style=style,
        face=face,
        face_masks=masks,
        warnings=[
            *pair_warnings(style, face, mask, len(styles)),
            *image_warnings("style_image", used, style),
            *image_warnings("face_image", faces, face),
        ],
        settings=settings,
        facts=StyleFacts(
            format=OFFSET_FORMAT if FAMILIES[backbone.family].learns_offsets else FORMAT,
            family=backbone.family,
            prompt=config.prompt,
            pseudo_word=config.pseudo_word,
            heads=config.heads,
            insert_at=config.insert_at,
            statistics=config.statistics,
            steps=0,
            seed=config.seed,
            settings={k: v for k, v in settings_used.items() if k not in ("prompt", "seed")},
            style_hash=hashes[0],
            checkpoint=backbone.fingerprint,
            run=run_of(named),
            parent="",
            version=__version__,
        ),
    )


def encode_images(backbone: Backbone, images: PreparedImages) -> EncodedImages:
    """Encode the images of a run, each of them once.

    Args:
        backbone: that the images were prepared for.
        images: of :func:`prepare_images`.

    Raises:
        ACFunError: the mask is empty in the square that is trained on, or a model gives values
            that are not finite.
    """
    style = backbone.encode_pictures(images.style).to(backbone.device)
    face = backbone.encode_pictures(images.face).to(backbone.device)
    check_finite((style, face), VAE_OVERFLOWS)
    masks = images.face_masks
    tokens = fewer_tokens(backbone.style_tokens(images.style).float())
    check_finite((tokens,), IMAGE_ENCODER_OVERFLOWS)
    return EncodedImages(
        style=style,
        face=face,
        face_mask=resize_masks(masks, face.shape[-1]).to(backbone.device) if masks else None,
        style_tokens=tokens.to(backbone.device),
        settings=images.settings,
        facts=images.facts,
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
        tokens, grid = _pool_patches(tokens, first, grid // 2), grid // 2
    return tokens.flatten(0, 1)


def _pool_patches(tokens: Tensor, first: int, side: int) -> Tensor:
    """Return tokens ``(b, n, di)`` with their patches averaged to ``side`` x ``side``."""
    grid = math.isqrt(tokens.shape[1] - first)
    patches = rearrange(tokens[:, first:], "b (h w) d -> b d h w", h=grid)
    patches = rearrange(F.adaptive_avg_pool2d(patches, side), "b d h w -> b (h w) d")
    return torch.cat([tokens[:, :first], patches], dim=1)
