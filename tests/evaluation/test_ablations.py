"""The sections of the report: sound, and as cheap as they can be."""

import pytest

from acfun_ops.training.config import TrainConfig
from evaluation.benchmark import rows_of, select_sections
from evaluation.methods.acfun import Acfun
from evaluation.sections.ablations import (
    LENGTHS,
    OURS,
    PAPER,
    Setting,
    all_sections,
    drawing_strengths,
)

SETTING = Setting(config=TrainConfig(rank=8), steps=200, ablation_pairs=12)
FIGURES = ("face", "texture", "colour", "truth", "leak", "variety", "prompt")


def test_sections_name_their_rows_and_figures():
    sections = all_sections(SETTING)
    names = [row.name for row in rows_of(sections)]
    assert len(names) == len(set(names))
    assert {one.figure for section in sections for one in section.expectations} <= set(FIGURES)
    assert all(section.expectations for section in sections)


def test_rows_share_the_setting_and_each_changes_one_thing():
    for row in rows_of(all_sections(SETTING)):
        assert row.sampling == SETTING.sampling
        if isinstance(row.method, Acfun):
            assert row.method.config.rank == 8
        if row.name.endswith(" steps"):
            assert row.steps == int(row.name.split()[0])
        else:
            assert row.steps == (500 if row.name == PAPER else 200)
    lengths = select_sections(all_sections(SETTING), ["Training length"])[0].rows
    assert [row.steps for row in lengths] == [200, *LENGTHS, 500]


def test_ablations_run_on_fewer_pairs_than_rivals():
    pairs = {row.name: row.pairs for row in rows_of(all_sections(SETTING))}
    assert pairs[OURS] is None
    assert pairs["InST-like"] is None
    assert pairs["AFun alone"] == 12


def test_strengths_share_one_training():
    methods = [row.method for row in drawing_strengths(SETTING).rows]
    assert len(set(methods)) == len(methods)
    assert len({method.training_key() for method in methods}) == 1


def test_sections_are_chosen_by_title():
    sections = all_sections(SETTING)
    assert select_sections(sections, []) == sections
    assert [section.title for section in select_sections(sections, ["prompt", "Peers"])] == [
        "Prompt",
        "Peers",
    ]
    with pytest.raises(ValueError, match="no section 'Beauty'"):
        select_sections(sections, ["Beauty"])
