"""Which block's adapter does what: the effects, their table and heat map, on made-up figures."""

import numpy as np
import pytest

from evaluation import blocks

BLOCKS = ("input_blocks.1.0", "middle_block.0", "output_blocks.0.0", "output_blocks.1.0")


def figures_of(texture):
    return {"texture": texture, "colour": 5.0, "landmarks": 2.0, "face": 1.0} | {
        "structure": 0.5,
        "layout": 0.1,
    }


@pytest.fixture
def added():
    first = {"none": 0.9, "all": 0.4, "alone encoder": 0.7, "without encoder": 0.5}
    second = {"none": 0.9, "all": 0.4, "alone encoder": 0.5, "without encoder": 0.7}
    pairs = [{n: figures_of(texture) for n, texture in one.items()} for one in (first, second)]
    return blocks.effects(pairs)


def test_each_block_and_both_halves_are_tried():
    groups = blocks.groups_of(BLOCKS)
    assert list(groups) == [*BLOCKS, "the encoder", "the decoder"]
    assert groups["middle_block.0"] == {"middle_block.0"}
    assert groups["the decoder"] == {"output_blocks.0.0", "output_blocks.1.0"}


def test_effect_is_what_a_block_adds_alone_and_last(added):
    assert list(added) == ["encoder, alone", "encoder, last"]
    assert added["encoder, alone"]["texture"] == pytest.approx((-0.3, 0.1))
    assert added["encoder, last"]["texture"] == pytest.approx((-0.2, 0.1))
    assert added["encoder, alone"]["colour"] == (0.0, 0.0)


def test_table_has_errors_and_heat_map_is_blue_where_it_is_better(added):
    assert "| encoder, alone | -0.300 +- 0.100 | +0.000 +- 0.000 |" in blocks.table(added)
    heat = np.asarray(blocks.heat_map(added)).astype(int)
    (red, _, blue) = heat[heat[..., 2] - heat[..., 0] > 100][0]
    assert (red, blue) == (64, 220)  # The largest effect is of full colour.
    assert not (heat[..., 0] - heat[..., 2] > 20).any()
    worse = {
        name: {f: e._replace(mean=-e.mean) for f, e in row.items()} for name, row in added.items()
    }
    heat = np.asarray(blocks.heat_map(worse)).astype(int)
    assert (heat[..., 0] - heat[..., 2] > 150).any()
