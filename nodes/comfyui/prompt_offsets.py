"""The pseudo-word of families whose prompts a language model encodes: an offset on the encoding.

The prompt is encoded once with ordinary text in the pseudo-word's place, the style's initial word,
and the offset is added where that word stands in the encoded prompt. No gradient goes through the
text encoder, which need not stay on the card.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import torch
from torch import Tensor

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.model_families import FAMILIES, name_by_encoders, name_of
from ...acfun_ops.pseudo_word import has_pseudo_word, pseudo_word_pattern
from ...acfun_ops.style.style import INITIAL_WORD, Style

# Words put in the initial word's place to see which tokens are its own: common ones, which seldom
# grow together with what stands beside them, and so many that one or two may.
_OTHERS = ("music", "water", "garden", "house", "7")
_PART_MODULES = {"l": ("clip_l", "clip_g")}

Conditioning = list[list[Any]]
Entry = tuple[Any, ...]
"""A token or vector, its weight, and the number of its piece of text, 0 for what frames text."""


@dataclass(frozen=True)
class WordPrompt:
    """A prompt with ordinary text in the pseudo-word's place, and where that text stands."""

    tokens: dict[str, Any]
    """For ComfyUI's CLIP."""
    pseudo_word: str
    """That it was written with."""
    lengths: dict[str, int]
    """Places that each text encoder takes, in the order of the encoded prompt."""
    words: list[dict[str, dict[int, float]]]
    """Of each pseudo-word, by text encoder: its places among the encoder's, with their weights."""


def is_clip_of(clip: Any, family: str) -> bool:
    """Tell whether a CLIP has the text encoders of a family, as far as its tokenizer shows it."""
    return " ".join(sorted(clip.tokenize(""))) in FAMILIES[family].encoders


def list_parts(clip: Any, family: str) -> list[str]:
    """Return the text encoders whose places make up the encoded prompt, in its order.

    Those that were not loaded, as SD3.5 may be used without T5, are none.
    """
    encoders = clip.cond_stage_model
    return [
        name
        for name in FAMILIES[family].parts or clip.tokenize("")
        if any(getattr(encoders, m, None) is not None for m in _PART_MODULES.get(name, (name,)))
    ]


def read_prompt(clip: Any, text: str, pseudo_word: str, word: str, family: str) -> WordPrompt:
    """Tokenize a prompt with a word in the pseudo-word's place, and find the word's tokens.

    They are those that change with the word, so the word may stand elsewhere in the prompt as well.

    Args:
        clip: ComfyUI's CLIP, one of the family.
        text: any prompt. Weights act as on any word: where ComfyUI's tokenizer knows them.
        pseudo_word: "S*", as a word of its own, any number of times.
        word: stands in its place.
        family: a key of ``FAMILIES``.

    Raises:
        ACFunError: a pseudo-word would have no place of its own.
    """
    pieces = pseudo_word_pattern(pseudo_word).split(text)
    count, parts = len(pieces) - 1, list_parts(clip, family)

    def entries_with(words: Sequence[str]) -> dict[str, list[Entry]]:
        return _entries(clip, _join(pieces, words), parts)

    own = entries_with([word] * count)
    words: list[dict[str, dict[int, float]]] = []
    for number in range(count):
        changed = [
            entries_with([word] * number + [other] + [word] * (count - number - 1))
            for other in _OTHERS
            if other not in word
        ]
        words.append({p: _own_places(own[p], [other[p] for other in changed]) for p in parts})
    taken = [(part, place) for of_word in words for part in parts for place in of_word[part]]
    if not all(all(of_word.values()) for of_word in words) or len(taken) != len(set(taken)):
        raise place_error(pseudo_word)
    lengths = {part: len(entries) for part, entries in own.items()}
    return WordPrompt(clip.tokenize(_join(pieces, [word] * count)), pseudo_word, lengths, words)


def offset_scales(prompt: WordPrompt, encoding: Tensor) -> dict[str, Tensor]:
    """Return how much of an offset each place of an encoded prompt takes.

    The word's places take the weight of their token times the mean magnitude of what it was encoded
    to, because that of one text encoder is a hundred times another's. All other places take 0.

    Args:
        prompt: whose tokens were encoded.
        encoding: ``(1, t, d)``.

    Returns:
        ``(1, t, 1)`` by text encoder.

    Raises:
        ACFunError: a pseudo-word has no place in the encoding.
    """
    # Some encoders cut their template off, which stands in front.
    start = encoding.shape[1] - sum(prompt.lengths.values())
    is_known, scales = start <= 0, {}
    for part, length in prompt.lengths.items():
        scale = encoding.new_zeros(1, encoding.shape[1], 1)
        for of_word in prompt.words:
            places = {start + n: weight for n, weight in of_word[part].items() if start + n >= 0}
            is_known = is_known and bool(places)
            for place, weight in places.items():
                scale[0, place] = weight * encoding[0, place].abs().mean()
        scales[part] = scale
        start += length
    if not is_known:
        raise place_error(prompt.pseudo_word)
    return scales


def add_offsets(
    encoding: Tensor, scales: Mapping[str, Tensor], offsets: Mapping[str, Tensor]
) -> Tensor:
    """Return an encoded prompt ``(1, t, d)`` with the pseudo-word's offsets ``(d,)`` on it.

    Differentiable in the offsets, which are by text encoder as the scales are; of one that either
    does not have nothing is added. Offsets of 0 change nothing.
    """
    for part, scale in scales.items():
        if part in offsets:
            encoding = encoding + scale * offsets[part].to(encoding)
    return encoding


def encode_with_offsets(clip: Any, text: str, style: Style) -> Conditioning:
    """Encode a prompt as CLIP Text Encode does, with a style's offsets where its word stands.

    Args:
        clip: any CLIP of the style's family; parts that were not loaded have no offset.
        text: any prompt.
        style: one of a family that learns offsets.

    Raises:
        ACFunError: the CLIP is of another family, or a word has no place of its own.
    """
    facts, word = style.facts, str(style.facts.settings[INITIAL_WORD])
    if not has_pseudo_word(text, facts.pseudo_word):
        plain: Conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        return plain
    here, row = clip.tokenize(""), FAMILIES[facts.family]
    if not is_clip_of(clip, facts.family):
        raise clip_error(row.name, name_by_encoders(here))
    prompt = read_prompt(clip, text, facts.pseudo_word, word, facts.family)
    conditioning = []
    for encoding, extra in clip.encode_from_tokens_scheduled(prompt.tokens):
        if encoding.shape[-1] != style.context_width or not prompt.lengths.keys() & style.vectors:
            raise clip_error(
                " ".join([row.name, *style.vectors, str(style.context_width)]),
                " ".join([name_by_encoders(here), *here, str(encoding.shape[-1])]),
            )
        scales = offset_scales(prompt, encoding)
        conditioning.append([add_offsets(encoding, scales, style.vectors), extra])
    return conditioning


def clip_error(encoders: str, clip_encoders: str) -> ACFunError:
    """Return the refusal of a CLIP of another family than the style's, by their names."""
    return ACFunError(
        "The style was trained with the CLIP of {encoders}; the connected clip is of "
        "{clip_encoders}. Connect the CLIP of the model family it was trained on.",
        encoders=encoders,
        clip_encoders=clip_encoders,
    )


def other_clip(clip: Any, family: str, width: int) -> ACFunError:
    """Return the refusal of a CLIP of another family than the model's of this context width."""
    return ACFunError(
        "The connected clip is of {encoders} and does not fit the model, which is "
        "{name}. Connect the CLIP of the same checkpoint.",
        encoders=name_by_encoders(clip.tokenize("")),
        name=name_of(family, width),
    )


def place_error(pseudo_word: str) -> ACFunError:
    """Return the refusal of a prompt whose pseudo-words a text encoder does not keep apart."""
    return ACFunError(
        "The text encoder has no place of its own for each {pseudo_word} in the prompt. Write "
        "spaces around each of them.",
        pseudo_word=pseudo_word,
    )


def _join(pieces: Sequence[str], words: Sequence[str]) -> str:
    """Return a text with words between its pieces."""
    return "".join(piece + word for piece, word in zip(pieces, [*words, ""], strict=True))


def _entries(clip: Any, text: str, parts: Sequence[str]) -> dict[str, list[Entry]]:
    """Return what each text encoder makes a place of, chunks in a row."""
    tokens = clip.tokenize(text, return_word_ids=True)
    entries: dict[str, list[Entry]] = {}
    for part in parts:
        width = _embedding_width(clip.cond_stage_model, part)
        entries[part] = []
        for batch in tokens[part]:
            # ComfyUI drops the vectors of textual inversions for other encoders and fills up.
            kept = [e for e in batch if not isinstance(e[0], Tensor) or e[0].shape[-1] == width]
            entries[part] += kept + [(None, 1.0, 0)] * (len(batch) - len(kept))
    return entries


def _embedding_width(encoders: Any, part: str) -> int:
    names = _PART_MODULES.get(part, (part,))
    encoder = next(e for e in (getattr(encoders, n, None) for n in names) if e is not None)
    return int(encoder.transformer.get_input_embeddings().weight.shape[-1])


def _own_places(own: list[Entry], others: Sequence[list[Entry]]) -> dict[int, float]:
    """Return the places of a text, with weights, whose tokens differ in most of the other texts."""
    places = [n for n, entry in enumerate(own) if entry[2]]
    ahead, behind = [], []
    for other in others:
        pair = [own[n][0] for n in places], [entry[0] for entry in other if entry[2]]
        most = min(map(len, pair))
        ahead.append(_count_alike(*pair, most))
        behind.append(_count_alike(pair[0][::-1], pair[1][::-1], most - ahead[-1]))
    first, last = median_low(ahead), len(places) - median_low(behind)
    return {n: own[n][1] for n in places[first:last]}


def _count_alike(one: list[Any], other: list[Any], most: int) -> int:
    """Return how many tokens two texts have in common from their beginnings on, up to a number."""
    pairs = enumerate(zip(one[:most], other[:most], strict=True))
    return next((n for n, pair in pairs if not _is_same(*pair)), most)


def _is_same(one: Any, other: Any) -> bool:
    both = isinstance(one, Tensor), isinstance(other, Tensor)
    return torch.equal(one, other) if all(both) else not any(both) and one == other
