"""One style made of two."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .. import __version__
from ..errors import ACFunError
from .model_spec import StyleCard
from .style import (
    BLEND_FORMAT,
    CLIP_LAYER,
    INITIAL_WORD,
    MAX_PARTS,
    OFFSET_FORMAT,
    AbstractPart,
    Style,
    StyleFacts,
)

CROSSED = "abstract of A, concrete of B"
"""What a style's settings say of one made by :func:`cross_styles`."""

Weights = Mapping[str, Tensor]


def blend_styles(a: Style, b: Style, ratio: float) -> Style:
    """Return a style whose effect lies between those of two; nothing of either is averaged away.

    CFun: an insert that computes ``(1 - ratio) * CFun_a(x) + ratio * CFun_b(x)``. Both are affine
    in ``x`` with factors linear in their bottlenecks, so the two bottlenecks side by side are one
    insert of both ranks. AFun: its layers and the text encoder's answer to S* are not linear in
    their weights, so both are kept, and prompt embeddings are summed by their shares. Author,
    license, date and picture of neither are those of the blend: its card is empty.

    Args:
        a: the style at ratio 0, which is returned itself there.
        b: the style at ratio 1, which is returned itself there.
        ratio: share of ``b``, 0 to 1.

    Raises:
        ACFunError: the ratio is out of range, the styles are of different kinds, or too many.
    """
    if not 0 <= ratio <= 1:
        raise ACFunError(
            "ratio is {ratio:g}; expected 0 (only style_a) to 1 (only style_b).", ratio=ratio
        )
    settings = (INITIAL_WORD,) if a.facts.format == OFFSET_FORMAT else ()
    _check_alike(a, b, ("family", "pseudo_word", "insert_at", "statistics", "heads"), settings)
    if ratio in (0, 1):
        return b if ratio else a
    weighted = ((a, 1 - ratio), (b, ratio))
    members = [(weight * share, m) for style, weight in weighted for share, m in style.members]
    if len(members) > MAX_PARTS:
        raise ACFunError(
            "This blend would hold {count} styles; at most {most} can be blended. Leave some out.",
            count=len(members),
            most=MAX_PARTS,
        )
    facts = _facts(a, b, {"blend": "blend", "ratio": ratio})
    return replace(
        a,
        facts=replace(
            facts, format=max(BLEND_FORMAT, facts.format), shares=tuple(s for s, _ in members)
        ),
        concrete={
            block: _side_by_side(state, b.concrete[block], ratio)
            for block, state in a.concrete.items()
        },
        others=tuple(_part(member) for _, member in members[1:]),
        card=StyleCard(),
    )


def cross_styles(a: Style, b: Style) -> Style:
    """Return the abstract part of one style with the concrete part of another, exactly.

    Its card is empty, as that of :func:`blend_styles`.

    Raises:
        ACFunError: the styles are of different families or widths.
    """
    _check_alike(a, b, ("family",))
    facts = _facts(a, b, {"blend": CROSSED})
    facts = replace(facts, insert_at=b.facts.insert_at, statistics=b.facts.statistics)
    return replace(a, facts=facts, concrete=b.concrete, card=StyleCard())


def _side_by_side(a: Weights, b: Weights, ratio: float) -> dict[str, Tensor]:
    """Return the state of an insert that gives ``(1 - ratio)`` of one and ``ratio`` of another."""
    state = {name: torch.cat([a[name], b[name]]) for name in ("down.weight", "down.bias")}
    for name in ("scale", "shift"):
        weights = [(1 - ratio) * a[f"{name}.weight"].float(), ratio * b[f"{name}.weight"].float()]
        bias = (1 - ratio) * a[f"{name}.bias"].float() + ratio * b[f"{name}.bias"].float()
        state |= {f"{name}.weight": torch.cat(weights, dim=1).half(), f"{name}.bias": bias.half()}
    return state


def _part(style: Style) -> AbstractPart:
    return AbstractPart(
        abstract=style.abstract, vectors=style.vectors, style_tokens=style.style_tokens
    )


def _facts(a: Style, b: Style, settings: dict[str, float | int | str]) -> StyleFacts:
    """Return the facts of a style made of two: their digests, and what else is known from A."""
    parents = {"style_a": a.digest, "style_b": b.digest}
    named = [*parents.values(), *map(str, settings.values())]
    # How A's abstract part has its prompts encoded.
    names = (CLIP_LAYER, INITIAL_WORD) if a.facts.format == OFFSET_FORMAT else (CLIP_LAYER,)
    carried = {name: value for name, value in a.facts.settings.items() if name in names}
    return replace(
        a.facts,
        steps=max(a.facts.steps, b.facts.steps),
        settings={**settings, **parents, **carried},
        run=hashlib.sha256("\n".join(named).encode()).hexdigest()[:16],
        parent="",
        version=__version__,
    )


def _check_alike(
    a: Style, b: Style, facts: tuple[str, ...], settings: tuple[str, ...] = ()
) -> None:
    found = [(name, getattr(a.facts, name), getattr(b.facts, name)) for name in facts]
    found += [(name, a.facts.settings.get(name), b.facts.settings.get(name)) for name in settings]
    found.append(("prompt embeddings' width", a.context_width, b.context_width))
    found.append(("text encoders", sorted(a.vectors), sorted(b.vectors)))
    for name, of_a, of_b in found:
        if of_a != of_b:
            raise ACFunError(
                "The styles differ in their {what}: style_a has {of_a}, style_b {of_b}. "
                "Blend styles that were trained alike on one model family.",
                what=name.replace("_", " "),
                of_a=of_a,
                of_b=of_b,
            )
    if a.block_widths != b.block_widths:
        raise ACFunError(
            "The styles differ in their blocks: style_a has {count}, style_b {count_b}, "
            "or their widths do. Blend styles of one model family.",
            count=len(a.concrete),
            count_b=len(b.concrete),
        )
