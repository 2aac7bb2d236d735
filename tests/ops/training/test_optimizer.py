"""One optimiser step: what moves how far, what counts as diverged, and the way back."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_styles import new_trainables
from torch.overrides import TorchFunctionMode

from acfun_ops.errors import ACFunError
from acfun_ops.training import optimizer
from acfun_ops.training.optimizer import (
    MAX_GRAD_NORM,
    MAX_SKIPPED,
    VECTORS_EVERY,
    DivergedError,
    Optimizer,
    OverflowedError,
)


def optimization(scaled=False, rate=0.01, **changes):
    return Optimizer(new_trainables(**changes), rate, scaled, torch.Generator(), {})


def loss_of(optimization):
    """A loss with a gradient everywhere."""
    return sum((parameter - 1).square().sum() for parameter in optimization.parameters)


def do_steps(optimization, count):
    values = []
    for _ in range(count):
        values.append(optimization.step(loss_of(optimization)))
    return values


def copies(optimization):
    return [parameter.detach().clone() for parameter in optimization.parameters]


def all_equal(tensors, others):
    return all(torch.equal(a, b) for a, b in zip(tensors, others, strict=True))


def test_parameters_are_all_there_once_with_vectors_last():
    run = optimization()
    named = dict(run.style.named_parameters())
    assert sorted(run.names) == sorted(named)
    assert set(run.names[-2:]) == {"vectors.l", "vectors.g"}
    assert all(p is named[n] for n, p in zip(run.names, run.parameters, strict=True))


@pytest.mark.parametrize("scaled", [False, True])
def test_steps_lower_the_loss_and_return_it(scaled):
    run = optimization(scaled)
    first = float(loss_of(run).detach())
    values = do_steps(run, 20)
    assert values[0] == pytest.approx(first)
    assert values == sorted(values, reverse=True)


def test_vectors_move_as_many_times_as_far_as_they_move_seldom():
    run, rate = optimization(rate=1e-3), 1e-3
    before = copies(run)
    do_steps(run, 1)
    after = copies(run)
    moved = [float((p - b).abs().max()) for p, b in zip(after, before, strict=True)]
    assert max(moved[:-2]) == pytest.approx(rate, rel=0.05)
    assert moved[run.names.index("vectors.g")] == pytest.approx(VECTORS_EVERY * rate, rel=0.05)


@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_of_afun_cfun_and_the_word_are_clipped_apart(scaled):
    run = optimization(scaled)
    run.backward(loss_of(run) * 1e3)
    for group in run.adamw.param_groups:
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in group["params"]))
        assert norm == pytest.approx(MAX_GRAD_NORM, rel=1e-3)
    assert len(run.adamw.param_groups) == 3


def test_word_does_not_decay_and_the_rest_does():
    run = optimization(rate=0.01)
    with torch.no_grad():
        for parameter in run.parameters:
            parameter.fill_(2.0)
    torch.autograd.backward(sum((p * 0).sum() for p in run.parameters))
    run.adamw.step()
    moved = dict(zip(run.names, [bool((p != 2).any()) for p in run.parameters], strict=True))
    assert not moved["vectors.l"] and not moved["vectors.g"]
    assert moved["abstract.layers.0.out.weight"] and moved["concrete.0.scale.weight"]


def test_gradients_do_not_add_up_over_steps():
    run = optimization()
    do_steps(run, 1)
    assert all(parameter.grad is None for parameter in run.parameters)
    run.backward(loss_of(run))
    run.restore(run.current)
    assert all(parameter.grad is None for parameter in run.parameters)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("scaled", [False, True])
def test_loss_that_is_not_finite_is_divergence(value, scaled):
    run = optimization(scaled)
    with pytest.raises(DivergedError):
        run.backward(loss_of(run) * value)
    assert all(parameter.grad is None for parameter in run.parameters)


def infinite_gradient(run):
    loss = loss_of(run)
    loss.register_hook(lambda gradient: gradient * math.inf)
    return loss


def test_gradient_that_is_not_finite_is_divergence():
    run = optimization()
    with pytest.raises(DivergedError):
        run.backward(infinite_gradient(run))


def test_scaler_skips_a_step_instead_and_scales_less():
    run = optimization(scaled=True)
    before, scale = copies(run), run.scale
    assert run.step(infinite_gradient(run)) is None
    assert all_equal(run.parameters, before)
    assert (run.scale, run.done, run.losses) == (scale / 2, 0, [])
    do_steps(run, 1)
    assert not all_equal(run.parameters, before)


def test_eight_overflows_in_a_row_are_divergence_and_seven_are_not():
    run = optimization(scaled=True)
    for overflows in (MAX_SKIPPED - 1, MAX_SKIPPED - 1):
        assert [run.backward(infinite_gradient(run)) for _ in range(overflows)] == [None] * 7
        do_steps(run, 1)
    for _ in range(MAX_SKIPPED - 1):
        run.backward(infinite_gradient(run))
    with pytest.raises(OverflowedError):
        run.backward(infinite_gradient(run))


def fail_in_adamw(run, monkeypatch):
    """Let AdamW run out of memory after it has moved some of the weights."""

    def step():
        with torch.no_grad():
            run.parameters[0].add_(1)
        raise torch.OutOfMemoryError("no memory for moments")

    monkeypatch.setattr(run.adamw, "step", step)


@pytest.mark.parametrize(("steps", "is_whole"), [(0, True), (2, False)])
@pytest.mark.parametrize("scaled", [False, True])
def test_step_that_failed_half_way_is_undone(steps, is_whole, scaled, monkeypatch):
    run = optimization(scaled)
    do_steps(run, steps)
    before = copies(run)
    with monkeypatch.context() as patched:
        fail_in_adamw(run, patched)
        with pytest.raises(torch.OutOfMemoryError):
            run.step(loss_of(run))
    assert all_equal(run.parameters, before)
    assert (run.is_whole, run.done, len(run.losses)) == (is_whole, steps, steps)
    assert all(parameter.grad is None for parameter in run.parameters)
    do_steps(run, 1)
    assert not all_equal(run.parameters, before)


def test_snapshots_hold_what_was_before_this_step_and_before_the_last():
    run = optimization()
    weights, randomness = [], []
    for step in range(3):
        weights.append(copies(run))
        randomness.append(run.generator.get_state())
        run.cache["prompt"] = torch.tensor(float(step))
        if step == 0:
            run.begin()
        do_steps(run, 1)
        torch.rand(1, generator=run.generator)
    run.restore(run.current)
    assert (run.done, len(run.losses), float(run.cache["prompt"])) == (3, 3, 2.0)
    run.restore(run.previous)
    assert (run.done, len(run.losses), float(run.cache["prompt"])) == (2, 2, 1.0)
    assert all_equal(run.parameters, weights[2])
    assert torch.equal(run.generator.get_state(), randomness[1])
    do_steps(run, 1)
    assert run.previous.step == 2  # What was gone back to stays as it was.
    run.restore(run.previous)
    assert all_equal(run.parameters, weights[2])


class WithoutFloat64(TorchFunctionMode):
    """Refuses float64, as MPS does."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


@pytest.mark.parametrize("scaled", [False, True])
def test_steps_need_no_float64_which_mps_lacks(scaled):
    run = optimization(scaled)
    with WithoutFloat64():
        with pytest.raises(TypeError, match="float64"):
            torch.ones(1).double()
        do_steps(run, 2)
        assert run.step(infinite_gradient(run)) is None if scaled else True
    assert run.done == 2


def test_loss_scale_moves_as_torch_s_scaler_does(monkeypatch):
    monkeypatch.setattr(optimizer, "GROWTH_INTERVAL", 3)
    run, weight = optimization(scaled=True), torch.nn.Parameter(torch.ones(1))
    scaler = torch.GradScaler("cpu", optimizer.FIRST_LOSS_SCALE, growth_interval=3)
    sgd = torch.optim.SGD([weight])
    for overflows in (True, False, False, False, False, True, False):
        run.step(infinite_gradient(run) if overflows else loss_of(run))
        torch.autograd.backward(scaler.scale(weight.sum() * (math.inf if overflows else 1)))
        scaler.step(sgd)
        scaler.update()
        sgd.zero_grad()
        assert run.state("a").scaler == scaler.state_dict()
    assert run.scale == optimizer.FIRST_LOSS_SCALE / 2


@pytest.mark.parametrize("scaled", [False, True])
def test_restored_state_goes_on_to_the_same_weights(scaled):
    straight, stopped, resumed = (optimization(scaled, seed=seed) for seed in (0, 0, 1))
    do_steps(straight, 5)
    do_steps(stopped, 3)
    saved = stopped.state("a")
    do_steps(stopped, 1)  # what was saved is a copy
    resumed.load_state(saved)
    do_steps(resumed, 2)
    assert all_equal(resumed.parameters, straight.parameters)
    assert resumed.state("a").scaler == straight.state("a").scaler


def test_moments_matter():
    straight, resumed = optimization(), optimization(seed=1)
    do_steps(straight, 3)
    resumed.load_state(replace(straight.state("a"), moments={}))
    assert all_equal(resumed.parameters, straight.parameters)
    do_steps(straight, 1)
    do_steps(resumed, 1)
    assert not all_equal(resumed.parameters, straight.parameters)


def test_moments_are_named_after_their_parameters():
    run = optimization()
    assert run.state("a").moments == {}
    do_steps(run, 1)
    kinds = ("exp_avg", "exp_avg_sq", "step")
    state = run.state("a")
    assert state.moments.keys() == {f"{name}.{kind}" for name in run.names for kind in kinds}
    assert state.weights.keys() == run.style.state_dict().keys()


@pytest.mark.parametrize("changes", [{"rank": 5}, {"layers": 1}, {"statistics": "std"}])
def test_state_of_another_model_is_refused(changes):
    other = optimization(**changes)
    do_steps(other, 1)
    with pytest.raises(ACFunError, match=r"does not fit this training\. Delete it"):
        optimization().load_state(other.state("a"))


def test_state_with_half_a_moment_is_refused():
    run = optimization()
    do_steps(run, 1)
    state = run.state("a")
    del state.moments["vectors.l.exp_avg"]
    with pytest.raises(ACFunError, match="does not fit this training"):
        optimization().load_state(state)
