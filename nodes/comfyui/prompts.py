"""CONDITIONING with the abstract part of a style, everywhere or inside a mask."""

from typing import Any

import node_helpers
import torch
from torch import Tensor
from torch.nn import functional as F

from ...acfun_ops.pseudo_word import has_pseudo_word, pseudo_word_pattern
from ...acfun_ops.style.style import Style
from .pseudo_word import tokenize

Conditioning = list[list[Any]]


def encode_fused(clip: Any, text: str, style: Style, strength: float) -> Conditioning:
    """Encode a prompt with the style's word and fuse it with the style's abstract part.

    Args:
        clip: ComfyUI's CLIP.
        text: any prompt.
        style: whose word and AFun act.
        strength: of AFun; 0 leaves what CLIP Text Encode gives for the learnt word.

    Raises:
        ACFunError: the CLIP is of another family than the style.
    """
    members = [(share, _of_one(clip, text, m, strength)) for share, m in style.members]
    return members[0][1] if len(members) == 1 else _summed(members)


def _of_one(clip: Any, text: str, style: Style, strength: float) -> Conditioning:
    tokens = tokenize(clip, text, style.facts.pseudo_word, style.vectors)
    conditioning: Conditioning = clip.encode_from_tokens_scheduled(tokens)
    if strength == 0:
        return conditioning
    fusion = style.abstract_fusion()

    def fused(embedding: Tensor) -> Tensor:
        device = embedding.device
        result: Tensor = fusion.to(device)(embedding, style.style_tokens.to(device), strength)
        return result

    return [[fused(embedding), extra] for embedding, extra in conditioning]


def _summed(members: list[tuple[float, Conditioning]]) -> Conditioning:
    """Return the sum of embeddings and pooled outputs, times the members' shares."""
    summed = []
    for parts in zip(*(conditioning for _, conditioning in members), strict=True):
        shared = [(share, part) for (share, _), part in zip(members, parts, strict=True)]
        extra = dict(parts[0][1])
        if extra.get("pooled_output") is not None:
            extra["pooled_output"] = sum(share * p[1]["pooled_output"] for share, p in shared)
        summed.append([sum(share * part[0] for share, part in shared), extra])
    return summed


def encode_plain(clip: Any, text: str, style: Style) -> Conditioning:
    """Encode a prompt as CLIP Text Encode does, without the style's word."""
    plain = pseudo_word_pattern(style.facts.pseudo_word).sub(" ", text)
    conditioning: Conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(plain))
    return conditioning


def combined(inside: Conditioning, mask: Tensor, outside: Conditioning) -> Conditioning:
    """Return a CONDITIONING that samplers read as one inside a mask and as another outside.

    It is what Conditioning (Set Mask) and Conditioning (Combine) give. Parts that have a mask of
    their own keep it, within the new one; parts of which nothing would be left are dropped.

    Args:
        inside: where the mask is white.
        mask: ``(m, h, w)`` in [0, 1].
        outside: where it is black.
    """
    return _within(inside, mask) + _within(outside, 1 - mask)


def missing_word(text: str, pseudo_word: str) -> str:
    """Return what to say of a prompt without the style's word, "" if it has it."""
    if has_pseudo_word(text, pseudo_word):
        return ""
    return (
        f"The prompt does not hold this style's word {pseudo_word}, so it adds nothing. Write "
        f"{pseudo_word}, exactly so and as a word of its own, where the style shall stand."
    )


def _within(conditioning: Conditioning, limit: Tensor) -> Conditioning:
    parts = []
    for part in conditioning:
        own, values = part[1].get("mask"), {}
        mask = limit if own is None else _overlap(own, limit)
        if own is None:
            values = {"mask_strength": 1.0, "set_area_to_bounds": False}
        if mask.any():
            parts += node_helpers.conditioning_set_values([part], {"mask": mask, **values})
    return parts


def _overlap(own: Tensor, limit: Tensor) -> Tensor:
    own = own.reshape(-1, *own.shape[-2:])
    limit = F.interpolate(limit[:, None].to(own), size=own.shape[-2:], mode="area")[:, 0]
    frames = torch.arange(max(len(own), len(limit)))
    return own[frames % len(own)] * limit[frames % len(limit)]
