"""A lesson can be stopped at any time, and the next one goes on from what it left."""

import os
import signal
import time

import pytest
import torch
from torch import nn

from evaluation.toy.training.session import Course, Learner, stop_on_signals


@pytest.fixture
def course_of(tmp_path):
    def course(minutes=1.0, anneal=False):
        return Course("toy", minutes, 1e-2, anneal, 0, tmp_path, tmp_path / "log.txt")

    return course


def learn(course, steps, model=None):
    """Teach a line for some steps, then stop as a signal would."""
    model = model or nn.Linear(2, 1)
    learner = Learner(model, course, decay=0.9)
    while learner.goes_on():
        learner.step((model(torch.ones(4, 2)) - 3).square().mean(), 4)
        course.stopped = learner.steps == steps
    return learner


def test_next_lesson_goes_on_from_the_whole_state(course_of):
    first = learn(course_of(), 5)
    second = Learner(nn.Linear(2, 1), course_of(), decay=0.9)
    assert second.samples_before == 20
    for ours, theirs in ((first.model, second.model), (first.average, second.average)):
        assert torch.equal(ours.weight, theirs.weight)
    assert second.optimizer.state_dict()["state"][0]["step"] == 5


def test_average_follows_and_is_not_the_model(course_of):
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    before = model.weight.clone()
    learner = learn(course_of(), 5, model)
    assert not torch.equal(learner.average.weight, before)
    assert not torch.equal(learner.average.weight, learner.model.weight)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_lesson_with_nothing_lost(course_of, tmp_path, number):
    course = course_of()
    handler = signal.getsignal(number)
    model = nn.Linear(2, 1)
    with stop_on_signals(course):
        learner = Learner(model, course, decay=0.9)
        while learner.goes_on():
            learner.step(model(torch.ones(1, 2)).square().mean(), 1)
            if learner.steps == 3:
                os.kill(os.getpid(), number)
    assert learner.steps == 3
    assert signal.getsignal(number) is handler
    assert Learner(nn.Linear(2, 1), course_of(), 0.9).samples_before == 3
    assert signal.Signals(number).name in (tmp_path / "log.txt").read_text()


def test_a_lesson_ends_when_its_minutes_are_over(course_of):
    course = course_of(minutes=0.002)
    learner = Learner(nn.Linear(2, 1), course, 0.9)
    course.started = time.perf_counter()  # What torch imports for it would take all of the time.
    while learner.goes_on():
        learner.step(learner.model(torch.ones(1, 2)).square().mean(), 1)
    assert learner.steps > 0
    assert course.seconds < 10


def test_log_says_machine_threads_and_samples(course_of, tmp_path):
    learn(course_of(), 2)
    log = (tmp_path / "log.txt").read_text()
    assert f"{torch.get_num_threads()} threads" in log
    assert "8 samples, 8 in all" in log


def test_rate_falls_only_when_it_is_asked_to(course_of):
    rates = []
    for anneal in (False, True):
        course = course_of(anneal=anneal)
        learner = Learner(nn.Linear(2, 1), course, 0.9)
        learner.steps, course.started = 1000, course.started - 59
        learner.step(learner.model(torch.ones(1, 2)).square().mean(), 1)
        rates.append(learner.optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(1e-2)
    assert rates[1] < 1e-3
