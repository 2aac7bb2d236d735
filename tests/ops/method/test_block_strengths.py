"""Strengths of single blocks, as a user writes them."""

import pytest

from acfun_ops.errors import ACFunError
from acfun_ops.method.block_strengths import STYLE_BLOCKS_ONLY, read_block_strengths
from acfun_ops.method.injection import PartStrengths

BLOCKS = [
    "input_blocks.1.0",
    "input_blocks.8.0",
    "middle_block.0",
    "output_blocks.0.0",
    "output_blocks.1.0",
    "output_blocks.10.0",
]
PARTS = PartStrengths(encoder=2.0, middle=0.5, decoder=1.0)


def strengths_of(text, family="sd1"):
    return read_block_strengths(text, PARTS, BLOCKS, family)


def changed_by(text, family="sd1"):
    usual, found = strengths_of(""), strengths_of(text, family)
    return {block: found[block] for block in BLOCKS if found[block] != usual[block]}


def test_no_text_leaves_the_parts_as_they_are():
    assert strengths_of(" \n") == PARTS.block_strengths(BLOCKS)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("output_blocks.1=0.5", {"output_blocks.1.0": 0.5}),  # Not output_blocks.10.
        ("output_blocks.1.0 = .5", {"output_blocks.1.0": 0.5}),
        ("input_blocks=0", {"input_blocks.1.0": 0.0, "input_blocks.8.0": 0.0}),
        ("input_blocks.8=0.25,middle_block=3;", {"input_blocks.8.0": 0.5, "middle_block.0": 1.5}),
        # The longest beginning counts, wherever it stands.
        ("input_blocks.8=0.5\ninput_blocks=1", {"input_blocks.8.0": 1.0}),
    ],
)
def test_a_block_is_named_by_its_beginning_and_multiplied_by_its_part(text, changed):
    assert changed_by(text) == changed


def test_style_blocks_only_leaves_one_block_of_sdxl():
    found = strengths_of(STYLE_BLOCKS_ONLY, "sdxl")
    assert {block for block, strength in found.items() if strength} == {"output_blocks.1.0"}
    with pytest.raises(ACFunError, match="known of SDXL alone, and the style is of sd1"):
        strengths_of(STYLE_BLOCKS_ONLY)


@pytest.mark.parametrize(
    "name", ["output_blocks.2", "output_blocks.1.1", "output", "output_blocks.", "a.b", "S*"]
)
def test_a_name_that_fits_no_block_is_refused_with_those_there_are(name):
    with pytest.raises(ACFunError) as refused:
        strengths_of(f"input_blocks.8=1, {name}=0.5")
    assert f"names '{name}', which none" in str(refused.value)
    assert ", ".join(BLOCKS) in str(refused.value)


@pytest.mark.parametrize(
    "entry", ["output_blocks.1", "output_blocks.1=", "=1", "middle_block=4", "middle_block=-1", "x"]
)
def test_what_is_no_entry_is_refused_by_name(entry):
    with pytest.raises(ACFunError, match=f"holds '{entry}'; expected a block and a strength of 0"):
        strengths_of(f"input_blocks=1, {entry}")
