"""Training states on disk: finished runs keep none, and old ones go above a limit."""

import os
from dataclasses import replace

from tiny_training import cancelled, small_config, trained
from tiny_training import run as train

from acfun_ops.style.style_file import load_style
from acfun_ops.training.run_files import (
    keep_run,
    new_place,
    part_at,
    place_for,
    prune_states,
    resume_file,
)

RUNS = [f"{number:016x}" for number in range(4)]


def states_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_only_an_unfinished_run_keeps_its_state(tmp_path):
    path, config = tmp_path / "a.safetensors", small_config()
    keep_run(cancelled(config, 2), path)
    assert resume_file(path).exists()
    keep_run(trained(config), path)
    assert states_in(tmp_path) == ["a.safetensors"]
    keep_run(cancelled(config, 2), path)
    keep_run(replace(cancelled(config, 2), outcome="diverged", state=None), path)
    assert states_in(tmp_path) == ["a.safetensors"]


def test_a_run_with_nothing_left_to_learn_leaves_the_state_to_go_on_with(tmp_path):
    path, early = tmp_path / "a.safetensors", cancelled(small_config(), 4)
    keep_run(early, path)
    state = resume_file(path).read_bytes()
    nothing = train(small_config(steps=2), resume=(early.style, early.state))
    assert nothing.outcome == "finished" and nothing.style.digest == early.style.digest
    keep_run(nothing, path, path)
    assert resume_file(path).read_bytes() == state
    keep_run(trained(small_config(steps=4, seed=1)), path)
    assert not resume_file(path).exists()


def test_what_may_be_another_run_of_that_name_stays(tmp_path):
    path = tmp_path / "a.safetensors"
    assert new_place(path) == path
    keep_run(cancelled(small_config(), 2), path)
    assert new_place(path) == tmp_path / "a_2.safetensors"


def test_fewer_steps_of_the_same_run_go_beside(tmp_path):
    path, config = tmp_path / "a.b.safetensors", small_config()
    keep_run(trained(config), path)
    early, other = cancelled(config, 2), cancelled(small_config(seed=1), 2)
    assert place_for(early.style, path) == tmp_path / "a.b_2.safetensors"
    assert place_for(trained(config).style, path) == path
    keep_run(cancelled(config, 3), tmp_path / "a.b_2.safetensors")
    assert place_for(early.style, path) == tmp_path / "a.b_3.safetensors"
    assert part_at(path, early.style.facts.run) == path
    keep_run(other, path)
    assert part_at(path, early.style.facts.run) == tmp_path / "a.b_2.safetensors"
    assert place_for(cancelled(config, 3).style, path) == tmp_path / "a.b_2.safetensors"


def test_what_is_not_finished_never_takes_the_place_of_something_else(tmp_path):
    path, config = tmp_path / "a.safetensors", small_config()
    early, other = cancelled(config, 2), trained(small_config(seed=1))
    assert part_at(path, early.style.facts.run) is None
    keep_run(other, path)
    assert place_for(early.style, path) == tmp_path / "a_2.safetensors"
    (tmp_path / "a_2.safetensors").write_bytes(b"a LoRA, say")
    assert place_for(early.style, path) == tmp_path / "a_3.safetensors"
    assert part_at(path, early.style.facts.run) is None


def test_a_state_that_cannot_be_written_does_not_hide_the_style(tmp_path):
    path, result = tmp_path / "a.safetensors", cancelled(small_config(), 2)
    assert keep_run(result, path) is None
    resume_file(path).unlink()
    resume_file(path).mkdir()
    error = keep_run(result, path)
    assert "training state could not be written" in str(error)
    assert load_style(path).digest == result.style.digest


def test_the_oldest_states_go_first_and_the_newest_never(tmp_path):
    for age, run in enumerate(RUNS):
        (tmp_path / f"{run}.resume").write_bytes(bytes(10))
        (tmp_path / f"{run}.safetensors").write_bytes(bytes(10))
        os.utime(tmp_path / f"{run}.resume", (1000 - age, 1000 - age))
    (tmp_path / "mine.resume").write_bytes(bytes(1000))
    oldest = tmp_path / f"{RUNS[3]}.resume"
    assert prune_states(tmp_path, oldest, limit=40) == 0
    assert prune_states(tmp_path, oldest, limit=30) == 1
    assert not (tmp_path / f"{RUNS[2]}.resume").exists()
    assert prune_states(tmp_path, oldest, limit=1) == 2
    left = [f"{run}.safetensors" for run in RUNS] + [oldest.name, "mine.resume"]
    assert states_in(tmp_path) == sorted(left)


def test_what_a_crash_left_half_written_goes_once_it_is_old(tmp_path):
    for name, age in (("old", 1.0), ("new", 2.0**31)):
        (tmp_path / f".acfun-{name}.tmp").write_bytes(b"half")
        os.utime(tmp_path / f".acfun-{name}.tmp", (age, age))
    prune_states(tmp_path, tmp_path / "none")
    assert states_in(tmp_path) == [".acfun-new.tmp"]
