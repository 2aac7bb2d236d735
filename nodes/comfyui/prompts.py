"""Prompts with a style: the pseudo-word in token lists, AFun on CONDITIONING, masks."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import node_helpers
import torch
from torch import Tensor
from torch.nn import functional as F

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.messages import Message, join_messages
from ...acfun_ops.model_families import name_by_encoders
from ...acfun_ops.pseudo_word import has_pseudo_word, pseudo_word_pattern
from ...acfun_ops.style.style import CLIP_LAYER, OFFSET_FORMAT, Style
from ...acfun_ops.training.training_images import PreparedImages
from .prompt_offsets import Conditioning, clip_error, encode_with_offsets, place_error

# Rare words that are one token each in CLIP's vocabulary, and letters, which are so in any; one
# absent from the prompt stands in.
_STAND_INS = ("sks", "lun", "grr", "zwx", "hta", "ucc", "phol", "q", "z", "x", "j")

Tokens = dict[str, list[list[tuple[Any, ...]]]]


def encode_fused(clip: Any, text: str, style: Style, strength: float) -> Conditioning:
    """Encode a prompt with the style's word and fuse it with the style's abstract part.

    Args:
        clip: ComfyUI's CLIP.
        text: any prompt.
        style: whose word and AFun act.
        strength: of AFun; 0 leaves what CLIP Text Encode gives for the learnt word. Families that
            learn offsets have it for the initial word in its place, with the offset on it.

    Raises:
        ACFunError: the CLIP is of another family than the style.
    """
    members = [(share, _encode_member(clip, text, m, strength)) for share, m in style.members]
    return members[0][1] if len(members) == 1 else _sum_members(members)


def _encode_member(clip: Any, text: str, style: Style, strength: float) -> Conditioning:
    if style.facts.format == OFFSET_FORMAT:
        conditioning = encode_with_offsets(clip, text, style)
    else:
        tokens = tokenize(clip, text, style.facts.pseudo_word, style.vectors)
        conditioning = clip.encode_from_tokens_scheduled(tokens)
    if strength == 0:
        return conditioning
    fusion = style.abstract_fusion()

    def fuse(embedding: Tensor) -> Tensor:
        device = embedding.device
        result: Tensor = fusion.to(device)(embedding, style.style_tokens.to(device), strength)
        return result

    return [[fuse(embedding), extra] for embedding, extra in conditioning]


def _sum_members(members: list[tuple[float, Conditioning]]) -> Conditioning:
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


def combine_masked(inside: Conditioning, mask: Tensor, outside: Conditioning) -> Conditioning:
    """Return a CONDITIONING that samplers read as one inside a mask and as another outside.

    It is what Conditioning (Set Mask) and Conditioning (Combine) give. Parts that have a mask of
    their own keep it, within the new one; parts of which nothing would be left are dropped.

    Args:
        inside: where the mask is white.
        mask: ``(m, h, w)`` in [0, 1].
        outside: where it is black.
    """
    return _limit_to_mask(inside, mask) + _limit_to_mask(outside, 1 - mask)


def prompt_warnings(clip: Any, text: str, style: Style) -> str:
    """Return what to say of a prompt without the style's word, and of a CLIP with another skip."""
    word, own = style.facts.pseudo_word, _own_layer(clip)
    trained, layer = style.facts.settings.get(CLIP_LAYER, own), _layer(clip)
    warnings = []
    if not has_pseudo_word(text, word):
        sentence = (
            "The prompt does not hold this style's word {pseudo_word}, so it adds nothing. Write "
            "{pseudo_word}, exactly so and as a word of its own, where the style shall stand."
        )
        warnings.append(Message(sentence, pseudo_word=word))
    if trained != layer:
        sentence = (
            "The style was trained with the CLIP's layer {trained}, and this clip gives layer "
            "{layer}, so the prompt acts otherwise. Put CLIP Set Last Layer at {trained} in front."
        )
        warnings.append(Message(sentence, trained=trained, layer=layer))
    return join_messages("\n", warnings)


def note_clip_layer(pair: PreparedImages, clip: Any) -> PreparedImages:
    """Put what CLIP Set Last Layer has set into the style's settings, if it changes anything."""
    if _layer(clip) == _own_layer(clip):
        return pair
    settings = pair.facts.settings | {CLIP_LAYER: _layer(clip)}
    return replace(pair, facts=replace(pair.facts, settings=settings))


def _layer(clip: Any) -> int:
    return _own_layer(clip) if clip.layer_idx is None else int(clip.layer_idx)


def _own_layer(clip: Any) -> int:
    """Return the layer that a CLIP gives without CLIP Set Last Layer, counted as there."""
    for module in clip.cond_stage_model.modules():
        if hasattr(module, "options_default"):
            layer = module.options_default[1]
            return -1 if layer is None else int(layer)
    return -1


def _limit_to_mask(conditioning: Conditioning, limit: Tensor) -> Conditioning:
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


def tokenize(clip: Any, text: str, pseudo_word: str, vectors: Mapping[str, Tensor]) -> Tokens:
    """Tokenize a prompt as ComfyUI does, with the pseudo-word's vectors where the word stands.

    Args:
        clip: ComfyUI's CLIP.
        text: any prompt; weights, ``embedding:name`` and long prompts work as ever.
        pseudo_word: "S*", as a word of its own, any number of times.
        vectors: its vector ``(d,)`` by text encoder ("l", "g", "h").

    Raises:
        ACFunError: the CLIP has other text encoders than the style, or no place for each word.
    """
    if not vectors or not has_pseudo_word(text, pseudo_word):
        return clip.tokenize(text)
    pattern = pseudo_word_pattern(pseudo_word)
    plain = clip.tokenize(pattern.sub(" ", text))
    if plain.keys() != vectors.keys():
        raise clip_error(name_by_encoders(vectors), name_by_encoders(plain))
    stand_in, ids = _find_stand_in(clip, plain)
    tokens = clip.tokenize(pattern.sub(f" {stand_in} ", text))
    for encoder, batches in tokens.items():
        found = sum(_is(entry[0], ids[encoder]) for batch in batches for entry in batch)
        if found < len(pattern.findall(text)):
            raise place_error(pseudo_word)
    return {
        encoder: [
            [
                (vectors[encoder], *entry[1:]) if _is(entry[0], ids[encoder]) else entry
                for entry in b
            ]
            for b in batches
        ]
        for encoder, batches in tokens.items()
    }


def prompt_embeddings(clip: Any, prompt: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the vectors ``(d,)`` that a prompt's ``embedding:name`` words stand for, by place."""
    for encoder, batches in clip.tokenize(prompt).items():
        entries = (entry for batch in batches for entry in batch)
        for place, entry in enumerate(entries):
            if isinstance(entry[0], Tensor):
                yield f"{encoder}.{place}", entry[0]


def word_ids(clip: Any, word: str) -> dict[str, list[int]]:
    """Return a word's token ids by text encoder, without start, end and padding."""
    empty = clip.tokenize("")
    ids = {}
    for encoder, batches in clip.tokenize(word).items():
        framing = {entry[0] for entry in empty[encoder][0]}
        ids[encoder] = [entry[0] for entry in batches[0] if entry[0] not in framing]
    return ids


def _find_stand_in(clip: Any, plain: Tokens) -> tuple[str, dict[str, int]]:
    for word in _STAND_INS:
        ids = word_ids(clip, word)
        used = any(
            _is(entry[0], token)
            for encoder, batches in plain.items()
            for batch in batches
            for entry in batch
            for token in ids[encoder]
        )
        if not used and all(len(tokens) == 1 for tokens in ids.values()):
            return word, {encoder: tokens[0] for encoder, tokens in ids.items()}
    raise ACFunError(
        "The prompt holds all of the words {words}, one of which is needed to place "
        "the pseudo-word. Remove one of them.",
        words=", ".join(_STAND_INS),
    )


def _is(token: Any, token_id: int) -> bool:
    return isinstance(token, int) and token == token_id
