"""Bootstrap intervals, paired differences, verdicts and ranks."""

import numpy as np
import pytest

from evaluation.report.results import (
    Interval,
    best_shares,
    bootstrap_mean,
    mean_difference,
    mean_ranks,
    verdict,
)


def test_interval_of_equal_values_has_no_width():
    assert bootstrap_mean([0.5] * 10) == Interval(0.5, 0.5, 0.5)


def test_interval_is_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    interval = bootstrap_mean(values)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.mean == pytest.approx(error, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(error, rel=0.1)


def test_interval_is_the_same_each_time_and_for_each_order_of_calls():
    first = bootstrap_mean([1.0, 2.0, 4.0])
    bootstrap_mean([3.0, 1.0])
    assert bootstrap_mean([1.0, 2.0, 4.0]) == first


@pytest.mark.parametrize("values", [[1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_interval_refuses_what_has_none(values):
    with pytest.raises(ValueError, match="finite"):
        bootstrap_mean(values)


def test_pairing_removes_what_the_pairs_share():
    random = np.random.default_rng(2)
    shared = random.normal(0, 5, size=40)
    reference, better = shared, shared + 0.5 + random.normal(0, 0.1, size=40)
    difference = mean_difference(better, reference)
    assert 0.4 < difference.low < 0.5 < difference.high < 0.6
    alone = bootstrap_mean(better)
    assert alone.high - alone.low > 10 * (difference.high - difference.low)


def test_paired_difference_refuses_other_pairs():
    with pytest.raises(ValueError, match="same pairs"):
        mean_difference([1.0, 2.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("low", "high", "expected", "said"),
    [
        (0.1, 0.3, "higher", "found"),
        (0.1, 0.3, "lower", "not found"),
        (-0.3, -0.1, "lower", "found"),
        (-0.3, -0.1, "higher", "not found"),
        (-0.1, 0.3, "higher", "within the interval"),
        (-0.1, 0.3, "lower", "within the interval"),
        (0.0, 0.0, "higher", "not found"),
    ],
)
def test_verdict(low, high, expected, said):
    assert verdict(Interval((low + high) / 2, low, high), expected) == said


def test_ranks_follow_the_direction_and_the_weight_of_each_figure():
    face = {"a": [3.0, 3.0], "b": [2.0, 2.0], "c": [1.0, 1.0]}
    style = {"a": [9.0, 9.0], "b": [1.0, 1.0], "c": [5.0, 5.0]}
    figures = {row: [np.array(face[row]), np.array(style[row])] for row in face}
    ranks = mean_ranks(figures, ["higher", "lower"], [1, 1])
    assert {row: rank.mean for row, rank in ranks.items()} == {"a": 2.0, "b": 1.5, "c": 2.5}
    by_face = mean_ranks(figures, ["higher", "lower"], [3, 1])
    assert {row: rank.mean for row, rank in by_face.items()} == {"a": 1.5, "b": 1.75, "c": 2.75}


def test_equal_rows_share_their_ranks_and_uncertain_ones_have_wide_intervals():
    same = [np.array([1.0, 2.0])]
    ranks = mean_ranks({"a": same, "b": same}, ["higher"], [1])
    assert ranks["a"] == ranks["b"] == Interval(1.5, 1.5, 1.5)
    apart = {"a": [np.array([1.0, 2.0, 6.0])], "b": [np.array([2.0, 3.0, 1.0])]}
    unsure = mean_ranks(apart, ["higher"], [1])["a"]
    assert (unsure.mean, unsure.low, unsure.high) == (1.0, 1.0, 2.0)


def test_share_of_pairs_on_which_a_row_is_best_splits_ties():
    figures = {
        "ours": [np.array([1.0, 1.0, 0.0, 1.0]), np.array([1.0, 1.0, 9.0, 1.0])],
        "peer": [np.array([0.0, 1.0, 1.0, 0.0]), np.array([2.0, 1.0, 2.0, 2.0])],
    }
    shares = best_shares(figures, ["higher", "lower"], [1, 1])
    assert shares["ours"].mean == pytest.approx(2.5 / 4)
    assert shares["peer"].mean == pytest.approx(1.5 / 4)
    alone = best_shares({name: values[:1] for name, values in figures.items()}, ["lower"], [1])
    assert alone["ours"].mean == pytest.approx(1.5 / 4)
