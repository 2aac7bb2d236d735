"""The command ``inspect``: what is in a style file."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ..method.injection import parts_of
from ..style.style import OFFSET_FORMAT, Style
from ..style.style_file import load_style
from .pipeline import to_path

EXAMPLES = """example:
  %(prog)s my.safetensors"""


def add_options(command: ArgumentParser) -> None:
    """Add the options of ``inspect``."""
    command.add_argument("file", type=to_path, help="a style file")


def run(options: Namespace) -> int:
    """Write facts, sizes and norms of a style to standard output; return the exit code.

    Raises:
        ACFunError: the style cannot be read.
    """
    style = load_style(options.file)
    size = options.file.stat().st_size
    lines = [f"{options.file} ({size / 1e6:.2f} MB)", *describe(style)]
    sys.stdout.write("".join(f"{_printable(line)}\n" for line in lines))
    return 0


def describe(style: Style) -> Iterator[str]:
    """Yield the lines that describe a style.

    The norms of an insert are those of its last layers, which are zero before training.
    """
    facts = style.facts
    yield f"  family        {facts.family}, embeddings {style.context_width} wide"
    yield f"  prompt        {facts.prompt}"
    kind = "offsets" if facts.format == OFFSET_FORMAT else "vectors"
    yield f"  pseudo-word   {facts.pseudo_word}, {kind} for {', '.join(sorted(style.vectors))}"
    for name in ("title", "author", "license", "date"):
        if getattr(style.card, name):
            yield f"  {name:<14}{getattr(style.card, name)}"
    yield f"  trained       {facts.steps} steps, seed {facts.seed}, version {facts.version}"
    for name, value in sorted(facts.settings.items()):
        yield f"    {name:<24}{value}"
    for name in ("style_hash", "checkpoint", "run", "parent"):
        yield f"  {name:<14}{getattr(facts, name) or '-'}"
    yield f"  style tokens  {style.style_tokens.shape[0]} x {style.style_tokens.shape[1]}"
    if facts.shares:
        shares = ", ".join(f"{share:.3f}" for share in facts.shares)
        yield f"  blend         of abstract parts that count {shares}; what follows is the first"
    yield f"AFun: {facts.heads} heads, {_count(style.abstract):,} weights"
    for layer in sorted({name.split(".")[1] for name in style.abstract}, key=int):
        norm = _norm(style.abstract[f"layers.{layer}.out.weight"])
        yield f"  layer {layer}  output norm {norm:.4f}"
    for name, vector in sorted(style.vectors.items()):
        yield f"  vector {name}  {len(vector)} wide, norm {_norm(vector):.4f}"
    weights = sum(_count(state) for state in style.concrete.values())
    yield f"CFun: {facts.statistics} at {facts.insert_at}, {weights:,} weights"
    yield f"  {'block':<20}{'part':<10}{'channels':>8}{'rank':>6}{'scale':>12}{'shift':>12}"
    parts = parts_of(style.concrete)
    for block in sorted(style.concrete, key=_order):
        state = style.concrete[block]
        channels, rank = state["scale.weight"].shape
        norms = [_norm(state[f"{n}.weight"], state[f"{n}.bias"]) for n in ("scale", "shift")]
        yield (
            f"  {block:<20}{parts[block]:<10}{channels:>8}{rank:>6}{norms[0]:>12.4f}"
            f"{norms[1]:>12.4f}"
        )


def _printable(line: str) -> str:
    """Return a line with escapes for what a terminal would obey: a file may say anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _order(block: str) -> tuple[str, list[int]]:
    part, *numbers = block.split(".")
    return part, [int(number) for number in numbers]


def _count(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _norm(*tensors: Tensor) -> float:
    return float(torch.cat([tensor.float().flatten() for tensor in tensors]).norm())
