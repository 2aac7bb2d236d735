"""Captions and their tokenizer: every word is one token, and unknown words are spelt."""

import re

import numpy as np
import pytest

from evaluation.toy.captions import MAX_TOKENS, caption, describe
from evaluation.toy.people import draw_person, draw_pose
from evaluation.toy.styles import draw_style
from evaluation.toy.training.denoiser import new_text_encoder, new_tokenizer, token_ids


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return new_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def captions():
    random = np.random.default_rng(0)
    return [
        caption(draw_person(random), draw_pose(random), draw_style(random), random)
        for _ in range(300)
    ]


def test_every_word_of_a_caption_is_one_token(tokenizer, captions):
    for text in captions:
        assert len(tokenizer.tokenize(text)) == len(text.split())
        assert len(text.split()) <= MAX_TOKENS - 2


def test_unknown_words_are_spelt(tokenizer):
    assert tokenizer.decode(tokenizer("xyz")["input_ids"], skip_special_tokens=True) == "xyz"


def test_text_encoder_knows_the_frame(tokenizer):
    config = new_text_encoder(len(tokenizer)).config
    assert config.bos_token_id == tokenizer.bos_token_id
    assert config.eos_token_id == tokenizer.eos_token_id
    ids = token_ids(tokenizer, ["a photo", ""])
    assert ids.shape == (2, MAX_TOKENS)
    assert ids[:, 0].tolist() == [tokenizer.bos_token_id] * 2


def test_some_captions_say_nothing_and_some_say_all(captions):
    assert 0.02 < np.mean([not text for text in captions]) < 0.2
    assert any(
        re.search(r"with \w+ \w+ hair .* style with (fine|bold) strokes and outlines$", text)
        for text in captions
    )


def test_a_caption_says_where_a_head_looks(captions):
    random = np.random.default_rng(1)
    said = set()
    for _ in range(200):
        pose = draw_pose(random)
        text = caption(draw_person(random), pose, None, random)
        look = re.search(r"looking (\w+)", text)
        if look:
            assert look[1] == {-1: "left", 1: "right"}[int(np.sign(pose.turn))]
            said.add(look[1])
    assert said == {"left", "right"}


def test_description_says_what_is_so():
    person = draw_person(np.random.default_rng(3))
    text = describe(person)
    assert f"{person.hair_length} {person.hair_color} hair" in text
    assert ("glasses" in text) == person.glasses
    assert ("hat" in text) == person.hat
