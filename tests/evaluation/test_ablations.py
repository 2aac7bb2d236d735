"""The sections of the report: sound, and as cheap as they can be."""

import pytest

from evaluation.benchmark import LearnsOnce, Sampling, rows_of, select_sections
from evaluation.methods.acfun import Acfun
from evaluation.sections.ablations import LENGTHS, all_sections, drawing_strengths
from evaluation.sections.rows import OURS, PAPER

FIGURES = ("face", "texture", "colour", "truth", "leak", "variety", "prompt")


def test_sections_name_their_rows_and_figures():
    sections = all_sections()
    names = [row.name for row in rows_of(sections)]
    assert len(names) == len(set(names))
    assert {one.figure for section in sections for one in section.expectations} <= set(FIGURES)
    assert all(section.expectations for section in sections)


def test_rows_share_the_setting_and_each_changes_one_thing():
    for row in rows_of(all_sections()):
        assert row.sampling == Sampling(steps=20, guidance=2.0)
        if isinstance(row.method, Acfun):
            assert row.method.config.learning_rate == (1e-4 if row.name == PAPER else 3e-3)
        if isinstance(row.method, LearnsOnce):
            assert row.steps >= 900
        elif row.name.endswith(" steps"):
            assert row.steps == int(row.name.split()[0])
        else:
            assert row.steps == (500 if row.name == PAPER else 150)
    lengths = select_sections(all_sections(), ["Training length"])[0].rows
    assert [row.steps for row in lengths] == [150, *LENGTHS, 500]


def test_ablations_run_on_fewer_pairs_than_rivals():
    pairs = {row.name: row.pairs for row in rows_of(all_sections())}
    assert pairs[OURS] is None
    assert pairs["InST-like"] is None
    assert pairs["AFun alone"] == 12


def test_strengths_share_one_training():
    methods = [row.method for row in drawing_strengths().rows]
    assert len(set(methods)) == len(methods)
    assert len({method.training_key() for method in methods}) == 1


def test_sections_are_chosen_by_title():
    sections = all_sections()
    assert select_sections(sections, []) == sections
    assert [section.title for section in select_sections(sections, ["prompt", "Peers"])] == [
        "Prompt",
        "Peers",
    ]
    with pytest.raises(ValueError, match="no section 'Beauty'"):
        select_sections(sections, ["Beauty"])
