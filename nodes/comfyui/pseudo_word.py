"""The learnt pseudo-word in ComfyUI's token lists."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.model_families import name_by_encoders
from ...acfun_ops.pseudo_word import has_pseudo_word, pseudo_word_pattern

# Rare words that are one token each in CLIP's vocabulary, and letters, which are so in any; one
# absent from the prompt stands in.
_STAND_INS = ("sks", "lun", "grr", "zwx", "hta", "ucc", "phol", "q", "z", "x", "j")

Tokens = dict[str, list[list[tuple[Any, ...]]]]


def tokenize(clip: Any, text: str, pseudo_word: str, vectors: Mapping[str, Tensor]) -> Tokens:
    """Tokenize a prompt as ComfyUI does, with the pseudo-word's vectors where the word stands.

    Args:
        clip: ComfyUI's CLIP.
        text: any prompt; weights, ``embedding:name`` and long prompts work as ever.
        pseudo_word: "S*", as a word of its own, any number of times.
        vectors: its vector ``(d,)`` by text encoder ("l", "g", "h").

    Raises:
        ACFunError: the CLIP has other text encoders than the style.
    """
    if not has_pseudo_word(text, pseudo_word):
        return clip.tokenize(text)
    pattern = pseudo_word_pattern(pseudo_word)
    plain = clip.tokenize(pattern.sub(" ", text))
    if plain.keys() != vectors.keys():
        raise ACFunError(
            f"The style was trained with the CLIP of {name_by_encoders(vectors)}; the connected "
            f"clip is of {name_by_encoders(plain)}. Connect the CLIP of the model family it was "
            "trained on."
        )
    stand_in, ids = _unused_stand_in(clip, plain)
    tokens = clip.tokenize(pattern.sub(f" {stand_in} ", text))
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


def _unused_stand_in(clip: Any, plain: Tokens) -> tuple[str, dict[str, int]]:
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
        f"The prompt holds all of the words {', '.join(_STAND_INS)}, one of which is needed to "
        "place the pseudo-word. Remove one of them."
    )


def _is(token: Any, token_id: int) -> bool:
    return isinstance(token, int) and token == token_id
