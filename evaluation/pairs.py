"""What every method is given, and what it hands back."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.errors import ACFunError
from acfun_ops.images import picture_hash
from acfun_ops.pseudo_word import has_pseudo_word

STYLE_WORD = "S*"
STYLE_PHRASE = f" in {STYLE_WORD} style"
PAINTING = "a painting"
Untaught = TypeVar("Untaught", bound="LearnsNothing")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A face to be drawn in a style. Prompts read "a painting of a woman ... in S* style".

    name: names its files. style, face: RGB squares ``(s, s, 3)`` in [0, 1]. prompt: says of the
    face whatever words can, and names the style S*. face_words: the part of it that says who,
    "a woman". style_words: the style in plain words, "an oil painting". other_prompt: the prompt
    with one attribute that neither picture has. style_prompt: says what the style picture shows,
    and names the style. spliced: a face put together from several
    people's, if any.

    Raises:
        ACFunError: a prompt lacks S* or the face's words.
    """

    name: str
    style: Tensor
    face: Tensor
    prompt: str
    face_words: str
    style_words: str
    other_prompt: str
    style_prompt: str = f"{PAINTING}{STYLE_PHRASE}"
    spliced: Tensor | None = None

    def __post_init__(self) -> None:
        for prompt in (self.prompt, self.other_prompt):
            if not has_pseudo_word(prompt, STYLE_WORD) or self.face_words not in prompt:
                raise ACFunError(
                    f"The prompt '{prompt}' of the pair {self.name} must hold {STYLE_WORD} and the "
                    f"words '{self.face_words}'. Write: {PAINTING} of {self.face_words}"
                    f"{STYLE_PHRASE}."
                )

    @property
    def digest(self) -> str:
        """SHA-256 of all that a method is given, hex."""
        words = [self.prompt, self.face_words, self.style_words, self.other_prompt]
        words.append(self.style_prompt)
        given = [self.style, self.face] + [self.spliced] * (self.spliced is not None)
        pictures = [picture_hash(picture[None]) for picture in given]
        return hashlib.sha256("\n".join([*words, *pictures]).encode()).hexdigest()

    def named(self, prompt: str) -> str:
        """Return a prompt with the style in plain words: "an oil painting of a woman"."""
        return self.unstyled(prompt).replace(PAINTING, self.style_words, 1)

    def unstyled(self, prompt: str) -> str:
        """Return a prompt without the words that name S*."""
        return prompt.replace(STYLE_PHRASE, "")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How pictures are drawn. steps: Euler steps. guidance: classifier-free, 1 is none."""

    steps: int = 20
    guidance: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a method drew of a pair.

    samples: ``(n, s, s, 3)`` in [0, 1]. other: the same under the pair's other prompt, from the
    same noise. seconds: of learning and drawing.
    """

    samples: Tensor
    other: Tensor
    seconds: float


class Method(Protocol):
    """A way to draw a face in a style; a frozen dataclass, whose fields name its results."""

    @property
    def learns(self) -> bool:
        """Whether there is anything to learn before drawing."""

    def learnt_as(self) -> "Method":
        """Return the method with all that only concerns drawing set to one value.

        Methods that are equal then share what they learn from a pair.
        """

    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """Learn from a pair in so many optimiser steps and write it to a safetensors file.

        The backbone is afterwards bit for bit as it was.
        """

    def draw(
        self,
        backbone: DiffusersBackbone,
        pair: Pair,
        learnt: Path,
        noise: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor]:
        """Return pictures ``(n, s, s, 3)`` of a pair, and those under its other prompt.

        Args:
            backbone: afterwards bit for bit as it was.
            pair: what to draw.
            learnt: the file that :meth:`learn` wrote; absent if the method learns nothing.
            noise: ``(n, c, h, w)``, standard normal.
            sampling: how.
        """


class LearnsNothing:
    """The half of a Method that a method without anything to learn needs."""

    learns: ClassVar[bool] = False

    def learnt_as(self: Untaught) -> Untaught:
        """See Method."""
        return self

    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """See Method."""


class LearnsOnce:
    """The half of a Method whose teaching serves every pair: it is the same for all of them.

    A row's steps are those of the teaching. Its seconds are no pair's.
    """

    learns: ClassVar[bool] = True

    def prepare(self, folder: Path, workers: int) -> None:
        """Put into a folder what the teaching looks for beside its file, made by processes."""
