"""The trainable parts: how they start, how they become a style, and how they take one over."""

import pytest
import torch
from tiny_styles import (
    FACTS,
    IMAGE_WIDTH,
    TEXT_WIDTH,
    WIDTHS,
    new_trainables,
    randomized,
    sample_style,
    tensors_of,
)

from acfun_ops.errors import ACFunError
from acfun_ops.style.style import style_bytes


def state_equal(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_new_trainables_change_nothing(generator):
    trainables = new_trainables(dropout=0.5)
    text = torch.randn(1, 3, TEXT_WIDTH, generator=generator)
    tokens = torch.randn(5, IMAGE_WIDTH, generator=generator)
    assert torch.equal(trainables.abstract(text, tokens, generator=generator), text)
    for block, insert in trainables.inserts().items():
        features = torch.randn(2, WIDTHS[block], 3, 3, generator=generator)
        assert torch.equal(insert(features), features)


def test_first_weights_are_drawn_by_the_generator_alone():
    before = torch.get_rng_state()
    assert state_equal(new_trainables(seed=3), new_trainables(seed=3))
    assert not state_equal(new_trainables(seed=3), new_trainables(seed=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_global_seed_does_not_matter():
    state = torch.get_rng_state()
    torch.manual_seed(1)
    one = new_trainables()
    torch.manual_seed(2)
    other = new_trainables()
    torch.set_rng_state(state)
    assert state_equal(one, other)


def test_everything_is_float32_and_trainable():
    vectors = {"l": torch.ones(TEXT_WIDTH, dtype=torch.float16)}
    trainables = new_trainables(vectors=vectors)
    assert {p.dtype for p in trainables.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in trainables.parameters())


def test_vectors_are_copies():
    table = torch.ones(TEXT_WIDTH)
    trainables = new_trainables(vectors={"l": table})
    with torch.no_grad():
        trainables.vectors["l"] += 1
    assert torch.equal(table, torch.ones(TEXT_WIDTH))


def test_inserts_have_their_blocks_widths():
    inserts = new_trainables().inserts()
    assert {block: insert.channels for block, insert in inserts.items()} == WIDTHS
    assert {insert.statistics for insert in inserts.values()} == {FACTS.statistics}


def test_style_keeps_the_weights_in_half_precision_and_apart():
    trainables = randomized(new_trainables())
    style = trainables.to_style(FACTS, torch.ones(5, IMAGE_WIDTH))
    kept = style.abstract["layers.0.out.weight"].clone()
    assert torch.equal(kept, trainables.abstract.layers[0].out.weight.half())
    with torch.no_grad():
        for parameter in trainables.parameters():
            parameter.zero_()
    assert torch.equal(style.abstract["layers.0.out.weight"], kept)
    assert {(t.dtype, t.device.type) for t in tensors_of(style).values()} == {
        (torch.float16, "cpu")
    }


def test_weights_beyond_half_precision_are_clamped():
    trainables = new_trainables()
    with torch.no_grad():
        trainables.vectors["l"][:2] = torch.tensor([1e6, -1e6])
    style = trainables.to_style(FACTS, torch.ones(5, IMAGE_WIDTH))
    assert style.vectors["l"][:3].tolist() == [65504.0, -65504.0, 1.0]


def test_style_taken_over_is_given_back():
    style, trainables = sample_style(), new_trainables(seed=9)
    assert style_bytes(trainables.to_style(FACTS, style.style_tokens)) != style_bytes(style)
    trainables.load_style(style, FACTS.family)
    assert style_bytes(trainables.to_style(FACTS, style.style_tokens)) == style_bytes(style)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in trainables.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_dim": IMAGE_WIDTH + 1}, "tokens 8 wide; this CLIP vision model gives 9"),
        (
            {"widths": WIDTHS | {"middle_block.0": 6}},
            "on SDXL with other blocks than this model: its 3 and the 3 of ",
        ),
        (
            {"widths": {"middle_block.0": 4}},
            "its 3 and the 1 of this model differ in name or width",
        ),
        ({"vectors": {"l": torch.ones(TEXT_WIDTH)}}, "with the text encoders of SDXL"),
        ({"rank": 4}, "another rank or another number of layers"),
        ({"layers": 1}, "another rank or another number of layers"),
        ({"layers": 3}, "another rank or another number of layers"),
        ({"statistics": "std"}, "another rank or another number of layers"),
        ({"text_dim": 32}, "SDXL whose prompt embeddings are 16 wide; this model takes 32"),
    ],
)
def test_style_of_another_shape_is_refused(changes, message):
    with pytest.raises(ACFunError, match=rf"^resume_from was trained .*{message}"):
        new_trainables(**changes).load_style(sample_style(), FACTS.family)
