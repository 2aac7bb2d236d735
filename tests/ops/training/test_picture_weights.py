"""Weights of several style pictures and face photos."""

import pytest
import torch
from tiny_backbone import IMAGE_WIDTH, TinyBackbone
from tiny_training import run, small_config, tiny_pictures

from acfun_ops.errors import ACFunError
from acfun_ops.style.style import style_bytes
from acfun_ops.training import fit as fit_module
from acfun_ops.training.picture_weights import picture_weights
from acfun_ops.training.training_images import encode_pair, fewer_tokens, prepare_pair

NAME = "style_picture_weights"


def encoded(pictures, weights):
    backbone, config = TinyBackbone(), small_config(**{NAME: weights})
    return encode_pair(backbone, prepare_pair(backbone, pictures, config, torch.float32))


@pytest.mark.parametrize("text", ["1, 0.5", "1 .5", "1,0.5,", " 1,\n0.5 "])
def test_numbers_are_read(text):
    assert picture_weights(text, 2, NAME) == (1, 0.5)


@pytest.mark.parametrize("text", ["", "  ", "1, 1", "0.3 0.3"])
def test_equal_weights_are_none(text):
    assert picture_weights(text, 2, NAME) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1", "has 1 numbers, and 2 pictures are connected"),
        ("1, 2, 3", "has 3 numbers, and 2 pictures are connected"),
        ("1, many", "expected numbers such as '1, 0.5'"),
        ("0, 0", "one of them above 0"),
        ("1, -1", "numbers of 0 or more"),
        ("1, nan", "numbers of 0 or more"),
        ("inf, 1", "numbers of 0 or more"),
    ],
)
def test_others_are_refused_in_a_sentence(text, said):
    with pytest.raises(ACFunError, match=f"^{NAME} .*{said}"):
        picture_weights(text, 2, NAME)


def test_without_weights_and_with_equal_ones_the_style_is_the_same_bytes():
    pictures = tiny_pictures(styles=2, faces=2)
    equal = {NAME: "1, 1", "face_photo_weights": "0.5 0.5"}
    plain = run(small_config(), pictures=pictures).style
    assert style_bytes(run(small_config(**equal), pictures=pictures).style) == style_bytes(plain)
    assert NAME not in plain.facts.settings
    for changes in ({NAME: "1, 0.5"}, {"face_photo_weights": "1, 0.5"}):
        weighted = run(small_config(**changes), pictures=pictures).style
        assert style_bytes(weighted) != style_bytes(plain)
        assert weighted.facts.run != plain.facts.run
        assert set(changes) <= weighted.facts.settings.keys()


@pytest.mark.parametrize("option", [NAME, "face_photo_weights"])
def test_weights_are_chances(option, monkeypatch):
    """Of 400 steps a picture of weight 0.25 beside one of 1 gets about 80."""
    seen = []
    original = fit_module._Run._sample_index

    def note(self, count, weights):
        seen.append((weights is not None, original(self, count, weights)))
        return seen[-1][1]

    monkeypatch.setattr(fit_module._Run, "_sample_index", note)
    config = small_config(steps=400, **{option: "0.25, 1"})
    run(config, pictures=tiny_pictures(styles=2, faces=2))
    weighted = [index for has_weights, index in seen if has_weights]
    plain = [index for has_weights, index in seen if not has_weights]
    assert len(weighted) == len(plain) == 400
    assert 50 < weighted.count(0) < 110
    assert 150 < plain.count(0) < 250


def test_a_picture_of_weight_0_has_no_part_in_the_style():
    pictures = tiny_pictures(styles=3)
    pair = encoded(pictures, "1, 0, 1")
    tokens = TinyBackbone().style_tokens(pictures.style)
    assert torch.equal(pair.style_tokens, tokens[[0, 2]].flatten(0, 1))


@pytest.mark.parametrize("class_token", [0, 1])
def test_lighter_pictures_bring_fewer_tokens(class_token, generator):
    tokens = torch.randn(3, 256 + class_token, 8, generator=generator)[..., :8]
    lighter = fewer_tokens(tokens[:2], (1.0, 0.25))
    assert len(lighter) == 256 + 64 + 2 * class_token
    assert torch.equal(lighter[: 256 + class_token], tokens[0])
    means = lighter[-64:].mean(dim=0), tokens[1, class_token:].mean(dim=0)
    assert torch.allclose(*means, atol=1e-6)
    assert torch.equal(fewer_tokens(tokens[:2]), tokens[:2].flatten(0, 1))


def test_tokens_that_are_no_grid_are_all_or_none_of_a_picture(generator):
    tokens = torch.randn(3, 256 + 5, 8, generator=generator)  # As with four register tokens.
    kept = fewer_tokens(tokens, (1.0, 0.0, 0.25))
    assert torch.equal(kept, tokens[[0, 2]].flatten(0, 1))


def test_a_picture_of_weight_0_takes_no_room_from_the_others(generator):
    tokens = torch.randn(3, 257, 1024, generator=generator)
    assert torch.equal(fewer_tokens(tokens, (1.0, 0.0, 1.0)), tokens[[0, 2]].flatten(0, 1))


def test_weights_of_pictures_beyond_the_eighth_go_with_the_pictures():
    pictures = tiny_pictures(styles=9)
    weights = ", ".join(str(index) for index in range(9))
    pair = encoded(pictures, weights)
    assert pair.style_weights == (0, 1, 2, 3, 5, 6, 7, 8)
    assert pair.style_tokens.shape[-1] == IMAGE_WIDTH
