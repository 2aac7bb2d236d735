"""What is measured on what: pairs, methods, figures, and the rows of the report."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.errors import ACFunError
from acfun_ops.images import image_hash
from acfun_ops.pseudo_word import has_pseudo_word

STYLE_WORD = "S*"
STYLE_PHRASE = f" in {STYLE_WORD} style"
PAINTING = "a painting"
Images = tuple[Tensor, Tensor]


def prompt_of(who: str) -> str:
    """Return the prompt for someone in the style: "a painting of a woman in S* style"."""
    return f"{PAINTING} of {who}{STYLE_PHRASE}"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A face and a style to generate it in. Prompts read "a painting of a woman ... in S* style".

    name: names its files. style, face: RGB squares ``(s, s, 3)`` in [0, 1]. prompt: says of the
    face whatever words can, and names the style S*. face_words: the part of it that says who,
    "a woman". style_words: the style in plain words, "an oil painting". other_prompt: the prompt
    with one attribute that neither image has. style_prompt: says what the style image shows,
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
                    f"words '{self.face_words}'. Write: {prompt_of(self.face_words)}."
                )

    @property
    def digest(self) -> str:
        """SHA-256 of all that a method is given, hex."""
        words = [self.prompt, self.face_words, self.style_words, self.other_prompt]
        words.append(self.style_prompt)
        given = [self.style, self.face, *([] if self.spliced is None else [self.spliced])]
        images = [image_hash(image[None]) for image in given]
        return hashlib.sha256("\n".join([*words, *images]).encode()).hexdigest()

    def name_style(self, prompt: str) -> str:
        """Return a prompt with the style in plain words: "an oil painting of a woman"."""
        return self.remove_style(prompt).replace(PAINTING, self.style_words, 1)

    def remove_style(self, prompt: str) -> str:
        """Return a prompt without the words that name S*."""
        return prompt.replace(STYLE_PHRASE, "")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are sampled. steps: Euler steps. guidance: classifier-free, 1 is none."""

    steps: int = 20
    guidance: float = 1.0


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """What a method generated for a pair.

    samples: ``(n, s, s, 3)`` in [0, 1]. other: the same under the pair's other prompt, from the
    same noise.
    """

    samples: Tensor
    other: Tensor


@dataclass(frozen=True)
class Task:
    """What a method is to generate.

    backbone: afterwards bit for bit as it was. learnt: the file that :meth:`Method.learn` wrote;
    absent if the method learns nothing. noise: ``(n, c, h, w)``, standard normal.
    """

    backbone: DiffusersBackbone
    pair: Pair
    learnt: Path
    noise: Tensor
    sampling: Sampling


class Method:
    """A way to generate a face in a style; a frozen dataclass, whose fields name its results."""

    @property
    def learns(self) -> bool:
        """Whether there is anything to learn before generating."""
        return type(self).learn is not Method.learn

    def training_key(self) -> "Method":
        """Return the method with all that only concerns generating set to one value.

        Methods that are equal then share what they learn from a pair.
        """
        return self

    def settings_changes(self) -> dict[str, float]:
        """Return numbers that are no fields and differ from those that old rows were run with."""
        return {}

    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """Learn from a pair in so many optimiser steps and write it to a safetensors file.

        The backbone is afterwards bit for bit as it was.
        """

    def generate(self, task: Task) -> Images:
        """Return images ``(n, s, s, 3)`` of a pair, and those under its other prompt."""
        raise NotImplementedError


class LearnsOnce(Method):
    """A Method that is pretrained once for all pairs.

    A row's steps are those of the pretraining, whose seconds count for no pair.
    """

    def prepare(self, folder: Path, workers: int) -> None:
        """Put what the pretraining looks for into a folder, made by several processes."""


@dataclass(frozen=True)
class Figure:
    """One number about what a method generated for a pair.

    name: its key. heading: of its column. better: which way is better. about: what it counts
    towards in the overall rank, if anything.
    """

    name: str
    heading: str
    better: Literal["higher", "lower"]
    about: Literal["face", "style", ""] = ""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A model, the pairs it is tried on, and how the results are measured.

    name: names the folder of results. backbone: the model; every process opens its own. pairs: all
    of them. figures: what is measured. measure: maps a pair's index and what was generated, as
    8-bit images, to one finite number per figure. truths: the right answer ``(s, s, 3)`` of each
    pair, where it is known.
    """

    name: str
    backbone: DiffusersBackbone
    pairs: Sequence[Pair]
    figures: Sequence[Figure]
    measure: Callable[[int, MethodResult], dict[str, float]]
    truths: Sequence[Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table: a method at a budget.

    name: unique. steps: of the optimiser, for methods that learn. pairs: how many of the bench's
    pairs, from the first on; None takes all. samples: images per pair and prompt.
    """

    name: str
    method: Method
    steps: int
    sampling: Sampling = field(default=Sampling())
    pairs: int | None = None
    samples: int = 4

    def pair_indices(self, bench: Bench) -> range:
        """Return the indices of the pairs that the row is run on."""
        count = len(bench.pairs)
        return range(count if self.pairs is None else min(self.pairs, count))


@dataclass(frozen=True)
class Expectation:
    """That a row's figure is higher (or lower) than another row's, and why one would think so."""

    text: str
    row: str
    figure: str
    is_: Literal["higher", "lower"]
    than: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report: rows that belong together.

    reference: the row that the others are compared with, pair by pair. is_ranked: whether these
    are rivals, to be ranked overall by their figures about face and style. votes: what a user study
    found, by row and by what was asked about ("" is overall), in %; the shares of pairs on which
    each row is the best are then set next to it.
    """

    title: str
    rows: Sequence[Row]
    reference: str
    expectations: Sequence[Expectation] = ()
    is_ranked: bool = False
    votes: Mapping[str, Mapping[str, float]] | None = None


def rows_of(sections: Sequence[Section]) -> list[Row]:
    """Return the rows of all sections, each once.

    Raises:
        ValueError: two different rows have the same name, or a section names a row it lacks.
    """
    rows: dict[str, Row] = {}
    for section in sections:
        for row in section.rows:
            if rows.setdefault(row.name, row) != row:
                raise ValueError(f"two different rows are called '{row.name}'")
        named = {section.reference}
        for expectation in section.expectations:
            named |= {expectation.row, expectation.than}
        missing = named - {row.name for row in section.rows}
        if missing:
            raise ValueError(f"section '{section.title}' lacks its row {sorted(missing)[0]!r}")
    return list(rows.values())


def select_sections(sections: Sequence[Section], titles: Sequence[str]) -> list[Section]:
    """Return the sections with these titles, or all if none is named.

    Raises:
        ValueError: there is no such section.
    """
    known = {section.title.lower(): section for section in sections}
    missing = [title for title in titles if title.lower() not in known]
    if missing:
        raise ValueError(f"no section '{missing[0]}'; there are {', '.join(known)}")
    return [known[title.lower()] for title in titles] if titles else list(sections)


def description(method: Method) -> dict[str, Any]:
    """Return all that defines a method, as JSON takes it."""
    fields = asdict(method)  # type: ignore[call-overload]
    fields.pop("settings", None)  # Which settings_changes() says.
    return {"method": type(method).__name__, **fields, **method.settings_changes()}
