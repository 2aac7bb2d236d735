"""The options of a run: ranges, choices, the prompt, and what the messages say."""

import dataclasses
import math

import pytest

from acfun_ops.errors import ACFunError
from acfun_ops.training.config import CHOICES as OFFERED
from acfun_ops.training.config import TrainConfig, help_of

RANGES = {
    "steps": (1, 1_000_000),
    "learning_rate": (1e-9, 1),
    "style_weight": (0, 10),
    "face_weight": (0, 10),
    "seed": (0, 2**64 - 1),
    "resolution": (0, 8192),
    "preview_every": (0, 10**9),
    "rank": (1, 512),
    "layers": (1, 8),
    "heads": (1, 64),
    "dropout": (0, 0.9),
}
UPPER = ["steps", "learning_rate", "style_weight", "face_weight", "rank", "layers", "heads"]
CHOICES = {
    "alignment": ("staged", "drawn", "paired", "imagery", "blend"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "gradient_checkpointing": ("auto", "on", "off"),
    "insert_at": ("resblock", "attention"),
    "statistics": ("std", "mean_std"),
}
OPTIONS = [field.name for field in dataclasses.fields(TrainConfig)]


def test_defaults_are_those_that_the_quality_benchmark_found():
    config = TrainConfig()
    assert (config.learning_rate, config.steps) == (5e-4, 150)
    assert (config.style_weight, config.face_weight) == (0.8, 1.0)
    assert (config.alignment, config.insert_at, config.statistics) == ("drawn", "resblock", "std")


def test_every_number_has_a_tested_range():
    numbers = {o for o in OPTIONS if isinstance(getattr(TrainConfig(), o), int | float)}
    assert numbers == RANGES.keys()


@pytest.mark.parametrize("option", RANGES)
def test_ends_of_a_range_are_taken(option):
    for value in RANGES[option]:
        assert getattr(TrainConfig(**{option: value}), option) == value


@pytest.mark.parametrize("option", [*UPPER, "seed", "dropout"])
def test_values_above_a_range_are_refused(option):
    value = RANGES[option][1] + (1 if isinstance(RANGES[option][1], int) else 0.01)
    with pytest.raises(ACFunError, match=rf"^{option} is {value}; expected .* to "):
        TrainConfig(**{option: value})


@pytest.mark.parametrize("option", RANGES)
def test_values_below_a_range_are_refused(option):
    low = TrainConfig.__dataclass_fields__[option].metadata["low"]
    with pytest.raises(ACFunError, match=rf"^{option} is {low - 1}; expected {low} (to|or more)"):
        TrainConfig(**{option: low - 1})


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("steps", 0, "steps is 0; expected 1 to 1,000,000. Set it within that range."),
        ("preview_every", -1, "preview_every is -1; expected 0 or more. Raise it."),
        (
            "seed",
            2**64,
            "seed is 18446744073709551616; expected 0 to 18,446,744,073,709,551,615. "
            "Set it within that range.",
        ),
        ("dropout", 1, "dropout is 1; expected 0 to 0.9. Set it within that range."),
    ],
)
def test_a_range_is_told_in_plain_numbers_with_what_to_do(option, value, message):
    with pytest.raises(ACFunError) as refused:
        TrainConfig(**{option: value})
    assert str(refused.value) == message


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("option", ["learning_rate", "style_weight", "face_weight", "dropout"])
def test_values_that_are_not_finite_are_refused(option, value):
    with pytest.raises(ACFunError, match=f"^{option} is {value}; expected"):
        TrainConfig(**{option: value})


@pytest.mark.parametrize("option", CHOICES)
def test_choices_are_these_and_no_others(option):
    for value in CHOICES[option]:
        assert getattr(TrainConfig(**{option: value}), option) == value
    expected = ", ".join(CHOICES[option])
    with pytest.raises(ACFunError, match=f"^{option} is 'other'; expected one of {expected}"):
        TrainConfig(**{option: "other"})


def test_choices_are_offered_to_the_node():
    assert OFFERED == CHOICES


@pytest.mark.parametrize("nothing", [{"learning_rate": 0}, {"style_weight": 0, "face_weight": 0.0}])
def test_runs_that_would_learn_nothing_are_refused(nothing):
    with pytest.raises(ACFunError, match=r"must be above 0, or nothing is learnt\. Raise"):
        TrainConfig(**nothing)


@pytest.mark.parametrize("weights", [(0, 1), (1, 0)])
def test_one_weight_may_be_zero(weights):
    assert TrainConfig(style_weight=weights[0], face_weight=weights[1])


@pytest.mark.parametrize("resolution", [1, 63, 500])
def test_resolution_is_a_multiple_of_64(resolution):
    message = f"^resolution is {resolution}; expected 0 or a multiple of 64"
    with pytest.raises(ACFunError, match=message):
        TrainConfig(resolution=resolution)


@pytest.mark.parametrize("prompt", ["", "  ", "\n"])
def test_empty_prompt_is_refused_with_an_example(prompt):
    with pytest.raises(ACFunError, match=r"prompt is empty.* A painting of a woman in S\* style"):
        TrainConfig(prompt=prompt)


@pytest.mark.parametrize("prompt", ["a painting of a woman", "GRASS* style", "x" * 500])
def test_prompt_without_the_pseudo_word_is_refused(prompt):
    message = rf"^The training prompt '{prompt[:80].replace('*', '[*]')}' .* needs S\* as a word"
    with pytest.raises(ACFunError, match=message):
        TrainConfig(prompt=prompt)


def test_another_pseudo_word_is_looked_for_instead():
    assert TrainConfig(prompt="a face in (sks:1.2) style", pseudo_word="sks")
    with pytest.raises(ACFunError, match="needs sks as a word"):
        TrainConfig(prompt="a face in S* style", pseudo_word="sks")


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_has_a_help_text_in_sentences(option):
    assert help_of(option)[0].isupper() or help_of(option)[0].isdigit()
    assert help_of(option).endswith(".")


@pytest.mark.parametrize("option", [*UPPER, "dropout"])
def test_help_names_the_upper_end_of_the_range(option):
    if option != "steps":
        assert f"{RANGES[option][1]:g}" in help_of(option)


def test_config_is_frozen_and_takes_keywords_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().steps = 5
    with pytest.raises(TypeError):
        TrainConfig("a face in S* style")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("steps", "150", "a whole number, as 150"),
        ("steps", 1.5, "a whole number"),
        ("steps", True, "a whole number"),
        ("learning_rate", None, "a number, as 0.0005"),
        ("prompt", 3, "a text"),
        ("alignment", b"drawn", "a text"),
    ],
)
def test_wrong_types_get_a_sentence(option, value, expected):
    with pytest.raises(ACFunError, match=f"^{option} is .*; expected {expected}"):
        TrainConfig(**{option: value})


def test_whole_numbers_are_numbers():
    assert TrainConfig(style_weight=1).style_weight == 1
