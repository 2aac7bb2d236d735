"""The pseudo-word is found as a word of its own, and only there."""

import pytest

from acfun_ops.pseudo_word import has_pseudo_word, pseudo_word_pattern


@pytest.mark.parametrize(
    "prompt",
    [
        "S*",
        "a painting in S* style",
        "a painting in (S*:1.2) style",
        "style,S*,painting",
        "(((S*)))",
        "one\nS*\ntwo",
        "S*'s style",
        "S*-like",
        "一幅S*风格的女人肖像",
        "女性のS*スタイルの絵",
        "S*의 초상화",
        "ภาพวาดS*ของผู้หญิง",
        "(embedding:S*:1.2)",
    ],
)
def test_pseudo_word_is_found_as_a_word(prompt):
    assert has_pseudo_word(prompt, "S*")


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "GRASS*",
        "S*tar",
        "S style",
        "s* style",
        "S *",
        "_S*",
        "1S*",
        "ÉS*",
        "画GRASS*",
        "\uff33S*",
    ],
)
def test_pseudo_word_is_not_found_inside_another(prompt):
    assert not has_pseudo_word(prompt, "S*")


@pytest.mark.parametrize("word", ["S*", "a.b", "(x)", "[v]", "$", "sks", "Ω", "\\d"])
def test_pseudo_word_is_taken_literally(word):
    assert has_pseudo_word(f"in {word} style", word)
    assert not has_pseudo_word("in aab 1 v other style", word)


def test_pattern_finds_every_place():
    places = [match.start() for match in pseudo_word_pattern("S*").finditer("S* and S*, not SS*")]
    assert places == [0, 7]


@pytest.mark.parametrize("prompt", ["embedding:S* a", "S* a", "embedding: S* a"])
def test_the_sign_of_an_embedding_is_a_part_of_the_word(prompt):
    assert pseudo_word_pattern("S*").sub("x", prompt) == "x a"
