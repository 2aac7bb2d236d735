"""The optimiser of a training run, and the way back to a step that went well."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ACFunError
from ..messages import Message
from .checkpoint import TrainState
from .trainable_style import TrainableStyle

MAX_GRAD_NORM = 1.0
VECTORS_EVERY = 4
# Steps that overflow are done anew; at torch's own 65536 the first ones of every training would.
FIRST_LOSS_SCALE = 1024.0
GROWTH_INTERVAL = 2000
MAX_SKIPPED = 8

STATE_MISFIT = (
    "The training state does not fit this training. Delete it; training then goes on from the "
    "style's weights alone."
)

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class DivergedError(Exception):
    """The loss or its gradient is not finite."""


class OverflowedError(DivergedError):
    """The gradient overflowed fp16 in so many steps in a row that no scale will help."""


@dataclass(frozen=True)
class Snapshot:
    """A run between two steps."""

    step: int
    """Steps done."""
    losses: int
    """How many losses are known."""
    weights: list[Tensor]
    """In the order of the optimiser's parameters."""
    random_state: Tensor
    """Of the run's generator."""
    cache: dict[str, Tensor]
    """What lasts longer than a step, see :class:`StyledModel`."""


class Optimizer:
    """AdamW with gradient clipping and, for fp16, a loss scale; it counts the steps of a run.

    AFun, CFun and the pseudo-word's vectors are three groups: the gradient of each is clipped by
    its own norm. The vectors do not decay towards zero, where no word is.

    Args:
        style: what is trained, float32.
        learning_rate: of AFun and CFun. The pseudo-word's vectors, which move in one step out of
            ``VECTORS_EVERY``, move that many times as far.
        is_scaled: whether to scale the loss, which fp16 needs.
        generator: samples everything random in the run, on the CPU.
        cache: what the run keeps over several steps, by name; changed in place.
    """

    def __init__(
        self,
        style: TrainableStyle,
        learning_rate: float,
        is_scaled: bool,
        generator: torch.Generator,
        cache: dict[str, Tensor],
    ) -> None:
        self.style, self.generator, self.cache = style, generator, cache
        groups: dict[str, dict[str, Any]] = {
            "abstract": {"lr": learning_rate},
            "concrete": {"lr": learning_rate},
            "vectors": {"lr": learning_rate * VECTORS_EVERY, "weight_decay": 0.0},
        }
        named = dict(style.named_parameters())
        self.names = [n for group in groups for n in named if n.startswith(f"{group}.")]
        self.parameters: list[Tensor] = [named[name] for name in self.names]
        for group, options in groups.items():
            options["params"] = [named[n] for n in self.names if n.startswith(f"{group}.")]
        self.adamw = torch.optim.AdamW(list(groups.values()))
        # Not torch.GradScaler: that of torch 2.4 needs float64, which MPS has not.
        self.is_scaled, self.scale, self.growth = is_scaled, FIRST_LOSS_SCALE, 0
        self.done, self.skipped, self.losses = 0, 0, list[float]()
        self.is_whole = True  # Whether AdamW's moments are those of the weights.
        self.begin()

    def begin(self) -> None:
        """Take what is now as the point that a failed step goes back to."""
        self.current = self.previous = self.snapshot()

    def snapshot(self) -> Snapshot:
        """Return a copy of the run as it is, without AdamW's moments."""
        weights = [torch.empty_like(parameter) for parameter in self.parameters]
        torch._foreach_copy_(weights, [p.detach() for p in self.parameters])
        random_state = self.generator.get_state()
        return Snapshot(self.done, len(self.losses), weights, random_state, dict(self.cache))

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot; AdamW's moments stay."""
        self.adamw.zero_grad()
        torch._foreach_copy_([p.detach() for p in self.parameters], snapshot.weights)
        self.generator.set_state(snapshot.random_state)
        self.cache.clear()
        self.cache.update(snapshot.cache)
        self.done, self.current = snapshot.step, snapshot
        del self.losses[snapshot.losses :]

    def step(self, loss: Tensor) -> float | None:
        """Move the weights and count the step.

        Returns and raises as :meth:`backward` does.
        """
        value = self.backward(loss)
        if value is None:
            self.current = self.snapshot()
            return None
        before, is_first = self.current, not self.adamw.state
        try:
            self.adamw.step()
            self.adamw.zero_grad()
            self.growth += 1
            if self.growth == GROWTH_INTERVAL:
                self.scale, self.growth = self.scale * 2, 0
            self.done += 1
            self.losses.append(value)
            self.current, self.previous = self.snapshot(), before
        finally:
            if self.current is before:  # It failed half-way, and what AdamW knows is lost.
                self.restore(before)
                self.adamw.state.clear()
                self.is_whole &= is_first
        return value

    def backward(self, loss: Tensor) -> float | None:
        """Compute and clip the gradients; the one place where a step waits for the device.

        Returns:
            The loss, or None if the scaled gradient overflowed: nothing may move then.

        Raises:
            DivergedError: the loss or, unscaled, its gradient is not finite.
            OverflowedError: that was the last of ``MAX_SKIPPED`` overflows in a row.
        """
        torch.autograd.backward(loss * self.scale if self.is_scaled else loss)
        groups = [[p for p in g["params"] if p.grad is not None] for g in self.adamw.param_groups]
        if self.is_scaled:
            torch._foreach_mul_([p.grad for group in groups for p in group], 1 / self.scale)
        norms = [torch.nn.utils.clip_grad_norm_(group, MAX_GRAD_NORM) for group in groups if group]
        value, *sizes = torch.stack([loss.detach(), *norms]).cpu().tolist()
        if all(math.isfinite(size) for size in (value, *sizes)):
            self.skipped = 0
            return float(value)
        self.adamw.zero_grad()
        if not math.isfinite(value) or not self.is_scaled:
            raise DivergedError
        self.scale, self.growth = self.scale / 2, 0
        self.skipped += 1
        if self.skipped == MAX_SKIPPED:
            raise OverflowedError
        return None

    def resume_at(self, step: int, seed: int) -> None:
        """Go on from a step of which only the weights are known."""
        self.done = step
        self.generator.manual_seed((seed + step) % 2**64)
        self.begin()

    def state(self, run: str) -> TrainState:
        """Return copies of all of it, on the CPU, for the run of this name."""
        # As torch.GradScaler had it, whose files go on.
        scaler = {"scale": self.scale, "_growth_tracker": self.growth}
        scaler |= {"growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": GROWTH_INTERVAL}
        moments: dict[int, dict[str, Any]] = self.adamw.state_dict()["state"]
        return TrainState(
            run=run,
            step=self.current.step,
            weights={n: t.cpu().clone() for n, t in self.style.state_dict().items()},
            moments={
                f"{self.names[index]}.{key}": entry[key].cpu().clone()
                for index, entry in moments.items()
                for key in _MOMENTS
            },
            generator=self.current.random_state,
            losses=torch.tensor(self.losses[: self.current.losses], dtype=torch.float64),
            scaler=scaler if self.is_scaled else {},
            kept={name: tensor.cpu() for name, tensor in self.current.cache.items()},
        )

    def load_state(self, state: TrainState) -> None:
        """Go on from a saved state.

        Raises:
            ACFunError: it is another run's.
        """
        saved = self.adamw.state_dict()
        try:
            self.generator.set_state(state.generator)
            self.style.load_state_dict(state.weights)
            saved["state"] = {
                index: {key: state.moments[f"{name}.{key}"].clone() for key in _MOMENTS}
                for index, name in enumerate(self.names)
                if f"{name}.step" in state.moments
            }
            for name, parameter in zip(self.names, self.parameters, strict=True):
                moment = state.moments.get(f"{name}.exp_avg", parameter)
                if moment.shape != parameter.shape:
                    raise ValueError(Message("{name} has another shape", name=name))
            self.adamw.load_state_dict(saved)
            if state.scaler:
                scale, growth = state.scaler["scale"], state.scaler["_growth_tracker"]
                self.scale, self.growth = float(scale), int(growth)
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise ACFunError(STATE_MISFIT) from error
        self.done, self.losses = state.step, state.losses.tolist()
        device = self.parameters[0].device
        self.cache.update({name: tensor.to(device) for name, tensor in state.kept.items()})
        self.begin()
