"""What a caption says of a drawing, and the tokenizer of its few words."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from .people import HAIR_COLORS, Person, Pose
from .styles import ANY_PAINTING, HUES, WORDS, Named

PHOTO = "a photo"
MAX_TOKENS = 32


def caption(person: Person, pose: Pose, named: Named | None, random: np.random.Generator) -> str:
    """Describe a drawing in words, some of which are left out at random; a tenth says nothing."""
    if random.random() < 0.1:
        return ""
    said = lambda: random.random() < 0.9  # noqa: E731
    medium = PHOTO
    if named is not None:
        medium = named.words if said() else ANY_PAINTING
    words = describe(person, said)
    look = f" looking {'left' if pose.turn < 0 else 'right'}" if pose.turn and said() else ""
    tones = f" in {named.tones} style" if named is not None and said() else ""
    strokes = f" {named.strokes}" if named is not None and named.strokes and said() else ""
    return f"{medium} of {words}{look}{tones}{strokes}"


def describe(person: Person, said: Callable[[], bool] = lambda: True) -> str:
    """Return a person in words, as far as they are ``said``: ``a woman with long red hair``."""
    color, length, glasses, beard, hat, smile = (said() for _ in range(6))
    hair = [person.hair_length] * length + [person.hair_color] * color
    having = [" ".join([*hair, "hair"])] if hair else []
    having += ["glasses"] * (glasses and person.glasses) + ["beard"] * (beard and person.beard)
    parts = [f"a {person.gender}"] + ["with " + " and ".join(having)] * bool(having)
    parts += ["wearing a hat"] * (hat and person.hat) + ["smiling"] * (smile and person.smile)
    return " ".join(parts)


def write_tokenizer(folder: Path) -> None:
    """Write ``vocab.json`` and ``merges.txt`` of a CLIPTokenizer: every word above is one token."""
    phrases = " ".join([*WORDS.values(), *HUES, *HAIR_COLORS, PHOTO, ANY_PAINTING])
    grammar = "of with long short hair and glasses beard wearing hat smiling looking left right"
    grammar += " in gray style person fine bold strokes outlines"
    words = list(dict.fromkeys(f"{phrases} {grammar} woman man".split()))
    letters = [chr(c) for c in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = next((p for p in merges if p in list(pairwise(parts))), None)
            if pair is None:
                pair = (parts[0], parts[1])
                merges.append(pair)
            parts = _merge(parts, pair)
    tokens += dict.fromkeys(a + b for a, b in merges)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined
