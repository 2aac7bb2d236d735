"""What a style's file says to other programs, in the keys of ModelSpec 1.0.1.

https://github.com/Stability-AI/ModelSpec
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from ..model_families import FAMILIES

PREFIX = "modelspec."
MOST_LETTERS = 300
"""Of each text of a card."""
_IMPLEMENTATION = "https://github.com/acfun-comfy/ComfyUI-ACFun"


@dataclass(frozen=True, kw_only=True)
class StyleCard:
    """What people say of a style; what is empty stays out of its file. No part of its identity."""

    title: str = ""
    """Its name; the training prompt stands for an empty one."""
    author: str = ""
    """Who made it."""
    license: str = ""
    """Under which it is shared."""
    date: str = ""
    """Of its first saving, ISO 8601."""
    thumbnail: str = ""
    """A small picture that the author wants in the file, as a data URI."""


def model_spec(
    family: str, prompt: str, pseudo_word: str, side: int, card: StyleCard
) -> dict[str, str]:
    """Return the metadata of a style's file besides its facts.

    Args:
        family: that it was trained on.
        prompt: that it was trained with.
        pseudo_word: that stands for it in prompts.
        side: of the training squares in pixels, 0 if it is not known.
        card: what people say of it.
    """
    base = FAMILIES[family].architecture or family
    if family == "sd2" and side >= 768:
        base = "stable-diffusion-v2-768-v"
    facts = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{base}/acfun",
        "implementation": _IMPLEMENTATION,
        "title": prompt,
        "description": f"ACFun style, trained with: {prompt}",
        "trigger_phrase": pseudo_word,
        "resolution": f"{side}x{side}" if side else "",
    }
    facts |= {key: text for key, text in asdict(card).items() if text}
    return {f"{PREFIX}{key}": text for key, text in facts.items() if text}


def card_in(metadata: Mapping[str, str]) -> StyleCard:
    """Return what people say of a style, from its file's metadata."""
    texts = {field.name: metadata.get(f"{PREFIX}{field.name}", "") for field in fields(StyleCard)}
    # The thumbnail is an image and not shown as a text.
    return StyleCard(**{n: t if n == "thumbnail" else shorten(t) for n, t in texts.items()})


def shorten(text: str) -> str:
    """Return a text of at most ``MOST_LETTERS``: a file may come from anyone."""
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 3]}..."
