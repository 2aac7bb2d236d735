"""The evaluation on the small prior: its figures know the true answer, its rows can be run."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluation import five_prompts
from evaluation import toy_benchmark as nano
from evaluation.benchmark import LearnsOnce, MethodResult, Sampling, Task, rows_of
from evaluation.methods.acfun import RELEASE_0_2, Acfun
from evaluation.sections.references import VOTES, KnownAnswer
from evaluation.sections.rows import STEPS_ONCE
from evaluation.toy.captions import describe
from evaluation.toy.evaluation_pairs import make_pair, make_tuning_pair
from evaluation.toy.paintings import photograph
from evaluation.toy.reader import attributes_of, load_reader
from evaluation.toy.styles import HELD_OUT, alike

NUMBERS = range(4)


def options_of(benchmark="nano", **options):
    return argparse.Namespace(benchmark=benchmark, **options)


@pytest.fixture(scope="module")
def reader():
    return load_reader()


def figures_of(reader, number, name):
    one = make_pair(number)
    pictures = torch.from_numpy(getattr(one, name))[None].expand(2, -1, -1, -1)
    return nano.measure(reader, one, MethodResult(samples=pictures, other=pictures))


@pytest.mark.parametrize("number", NUMBERS)
def test_true_answer_is_right_in_everything(reader, number):
    figures = figures_of(reader, number, "truth")
    assert figures["rank1"] == 1
    assert figures["leak"] == figures["truth"] == figures["variety"] == 0
    assert figures["landmarks"] == pytest.approx(0, abs=1e-3)
    assert figures["structure"] == pytest.approx(1)
    assert figures["face"] >= 5 / 7


@pytest.mark.parametrize("number", NUMBERS)
def test_sitter_is_told_from_the_face(reader, number):
    figures = figures_of(reader, number, "sitter_truth")
    assert figures["leak"] == 1
    assert figures["rank1"] == 0
    assert figures["truth"] > 0.02


@pytest.mark.parametrize("number", NUMBERS)
def test_style_picture_has_its_own_style_and_the_photo_has_not(reader, number):
    style, face = (figures_of(reader, number, name) for name in ("style", "face"))
    assert style["colour"] == style["texture"] == 0
    assert style["layout"] == pytest.approx(1)
    assert face["colour"] > 5
    assert face["texture"] > 0.1


def test_seam_shows_in_a_spliced_photo(reader):
    spliced, whole = (
        sum(figures_of(reader, number, name)["seam"] for number in NUMBERS)
        for name in ("spliced", "face")
    )
    assert spliced > whole


def test_bench_opens_and_all_its_rows_fit():
    bench = nano.open_bench(2)
    assert [pair.name for pair in bench.pairs] == ["00 gold tiles", "01 blue swirls"]
    assert bench.backbone.native_side == 64
    sections = nano.sections(options_of())
    figures = {figure.name for figure in bench.figures}
    assert {one.figure for section in sections for one in section.expectations} <= figures
    assert len(rows_of(sections)) > 30


def test_settings_are_chosen_on_other_people_and_styles():
    bench = nano.open_bench(name="tuning")
    assert not {pair.digest for pair in nano.open_bench().pairs} & {p.digest for p in bench.pairs}
    styles = [make_tuning_pair(number).named.style for number in range(nano.PAIRS["tuning"])]
    assert not any(alike(style, held.style) for style in styles for held in HELD_OUT.values())
    assert len({style.texture for style in styles}) >= 4
    rows = rows_of(nano.sections(options_of("tuning")))
    assert all(len(row.pair_indices(bench)) == nano.PAIRS["tuning"] for row in rows)
    ours, *_, softer, pulled = (row.method.settings_changes() for row in rows)
    assert softer == ours | {"noise_offset": 0.1, "redrawing_steps": 20}
    assert pulled == softer | {"colour_weight": 10.0}


def test_bench_computes_where_it_is_told_to():
    options = options_of(pairs=1, device="meta")
    assert nano.opener(options).args == (1, "meta", "nano")
    parser = argparse.ArgumentParser()
    nano.add_options(parser)
    assert parser.parse_args([]).device == "cpu"


def test_each_choice_of_what_the_model_draws_changes_one_thing():
    parts = {one.title: one for one in nano.sections(options_of())}
    ours, staged = parts["Peers"].rows[:2]
    assert ours.method.config.alignment == "drawn"
    rows = parts["Drawn by the model"].rows
    base = rows[0].method
    assert base == replace(ours.method, settings=RELEASE_0_2)
    assert staged.method == replace(base, config=replace(base.config, alignment="staged"))
    assert len({row.method.variant for row in rows}) == len(rows) == 6
    assert all(row.method.config == ours.method.config for row in rows)


def test_known_answer_is_the_pairs_own(backbone, tmp_path):
    pair = nano.open_bench(1).pairs[0]
    noise = torch.zeros(3, 4, 8, 8)
    task = Task(backbone, pair, tmp_path, noise, Sampling())
    samples, other = KnownAnswer(which="truth").generate(task)
    assert torch.equal(samples, other)
    assert torch.equal(samples[2], torch.from_numpy(make_pair(0).truth))


def test_peers_that_serve_every_pair_have_their_own_steps_and_what_they_share_is_taught_once():
    rows = {row.name: row for row in rows_of(nano.sections(options_of()))}
    once = {name: row for name, row in rows.items() if isinstance(row.method, LearnsOnce)}
    kinds = {type(row.method) for row in once.values()}
    assert kinds == set(STEPS_ONCE)
    for kind in kinds:
        mine = [row for row in once.values() if type(row.method) is kind]
        assert {row.steps for row in mine} == {STEPS_ONCE[kind]}
        assert len({row.method.training_key() for row in mine}) == 1
    assert rows["InstantStyle from the photo, spliced face"].method.spliced


def test_papers_comparison_has_every_system_that_the_digest_has_votes_for():
    sections = nano.sections(options_of())
    section = next(one for one in sections if one.title == "The paper's comparison")
    assert [row.name for row in section.rows] == list(VOTES)


def test_five_prompts_each_change_one_thing_and_are_read_back():
    person = make_pair(0).person
    people = five_prompts.people_of_prompts(person)
    assert list(people) == list(five_prompts.CHANGED)
    for group, changed in people.items():
        ours, theirs = attributes_of(person), attributes_of(changed)
        assert {name for name in ours if ours[name] != theirs[name]} == {group}
    pictures = [photograph(one, make_pair(0).pose, 0).color for one in people.values()]
    as_asked = torch.from_numpy(np.stack(pictures))
    assert sum(five_prompts.are_followed(0, as_asked)) >= 4
    unchanged = torch.from_numpy(make_pair(0).face).expand(5, -1, -1, -1)
    assert sum(five_prompts.are_followed(0, unchanged)) <= 1


def test_five_prompts_are_drawn_with_what_the_row_learnt(tmp_path, monkeypatch):
    asked = []

    def generate(self, task):
        asked.append((task.pair.other_prompt, task.learnt.read_text()))
        return task.noise, task.pair.face[None]

    monkeypatch.setattr(Acfun, "learn", lambda self, b, pair, steps, path: _write(path, pair.name))
    monkeypatch.setattr(Acfun, "generate", generate)
    bench = nano.open_bench(1)
    rows = rows_of(nano.sections(options_of()))
    assert five_prompts.generate_changed(bench, rows[0], 0, tmp_path).shape == (5, 64, 64, 3)
    person = make_pair(0).person
    assert asked == [
        (f"a painting of {describe(one)} in S* style", bench.pairs[0].name)
        for one in five_prompts.people_of_prompts(person).values()
    ]


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
