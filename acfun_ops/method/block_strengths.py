"""Strengths of single blocks: what a user writes of them, on top of the parts' strengths."""

import re
from collections.abc import Collection

from ..errors import ACFunError
from .injection import PartStrengths

STYLE_BLOCKS_ONLY = "style blocks only"
_HIGHEST = 3.0
_ENTRY = re.compile(r"([^=]+?)\s*=\s*(\d+(?:\.\d*)?|\.\d+)")
# B-LoRA (ECCV 2024) finds SDXL's style in the attention block output_blocks.1.1. Carried over to
# the ResBlocks around it; untested.
_STYLE_BLOCKS = "input_blocks=0, middle_block=0, output_blocks=0, output_blocks.1=1"


def read_block_strengths(
    text: str, parts: PartStrengths, blocks: Collection[str], family: str
) -> dict[str, float]:
    """Return how strongly each adapter acts: its part's strength times its own, which a text sets.

    Args:
        text: "output_blocks.0=0.5, input_blocks.8=0": beginnings of canonical block names, whole
            between dots, with a strength of 0 to 3 each; the longest that fits a block counts.
            Empty for the parts alone; ``STYLE_BLOCKS_ONLY`` for SDXL.
        parts: how strongly those of each part act.
        blocks: the style's, by canonical names.
        family: of the style.

    Raises:
        ACFunError: the text cannot be read, or a name fits none of the blocks.
    """
    text = text.strip()
    if text == STYLE_BLOCKS_ONLY:
        if family != "sdxl":
            raise ACFunError(
                "block_strengths is '{text}', which is known of SDXL alone, and the style is of "
                "{family}. Name its blocks instead, such as output_blocks.1=0.5.",
                text=text,
                family=family,
            )
        text = _STYLE_BLOCKS
    own = _read(text)
    strengths = dict.fromkeys(blocks, 1.0)
    for name in sorted(own, key=len):
        inside = [block for block in blocks if f"{block}.".startswith(f"{name}.")]
        if not inside:
            raise ACFunError(
                "block_strengths names '{name}', which none of the style's blocks begins with; "
                "they are {blocks}. Choose one of them, or leave the entry out.",
                name=name,
                blocks=", ".join(blocks),
            )
        strengths |= dict.fromkeys(inside, own[name])
    of_parts = parts.block_strengths(blocks)
    return {block: strength * strengths[block] for block, strength in of_parts.items()}


def _read(text: str) -> dict[str, float]:
    own = {}
    for entry in filter(None, map(str.strip, re.split(r"[,;\n]", text))):
        match = _ENTRY.fullmatch(entry)
        if match is None or float(match[2]) > _HIGHEST:
            raise ACFunError(
                "block_strengths holds '{entry}'; expected a block and a strength of 0 to 3, such "
                "as output_blocks.0=0.5, with commas in between, or '{only}' for SDXL.",
                entry=entry,
                only=STYLE_BLOCKS_ONLY,
            )
        own[match[1]] = float(match[2])
    return own
