"""One optimiser step on the trainables, with the way back to the last good weights."""

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import ACFunError
from ..messages import Message
from .trainable_style import Trainables

MAX_GRAD_NORM = 1.0
VECTORS_EVERY = 4
# Steps that overflow are done anew; at torch's own 65536 the first ones of every training would.
FIRST_LOSS_SCALE = 1024.0
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


class Optimization:
    """AdamW with gradient clipping and, for fp16, a loss scaler.

    AFun, CFun and the pseudo-word's vectors are three groups: the gradient of each is clipped by
    its own norm. The vectors do not decay towards zero, where no word is.

    Args:
        trainables: what is trained, float32.
        learning_rate: of AFun and CFun. The pseudo-word's vectors, which move in one step out of
            ``VECTORS_EVERY``, move that many times as far.
        device: of the trainables.
        scaled: whether to scale the loss, which fp16 needs.
    """

    def __init__(
        self, trainables: Trainables, learning_rate: float, device: torch.device, scaled: bool
    ) -> None:
        self.trainables = trainables
        parts = {
            "abstract": {"lr": learning_rate},
            "concrete": {"lr": learning_rate},
            "vectors": {"lr": learning_rate * VECTORS_EVERY, "weight_decay": 0.0},
        }
        named = list(trainables.named_parameters())
        groups = {part: [n for n, _ in named if n.startswith(f"{part}.")] for part in parts}
        self.names = [name for names in groups.values() for name in names]
        self.parameters: list[Tensor] = [dict(named)[name] for name in self.names]
        self.good = [parameter.detach().clone() for parameter in self.parameters]
        self.adamw = torch.optim.AdamW(
            [{"params": [dict(named)[n] for n in groups[p]], **parts[p]} for p in parts]
        )
        self.device, self.scaled = device, scaled
        self.scaler = self._new_scaler()
        self.skipped = 0
        self.is_whole, self.is_first, self.is_moving = True, True, False

    def backward(self, loss: Tensor) -> float | None:
        """Compute and clip the gradients; the one place where a step waits for the device.

        Returns:
            The loss, or None if the scaled gradient overflowed: nothing may move then.

        Raises:
            DivergedError: the loss or, unscaled, its gradient is not finite.
            OverflowedError: that was the last of ``MAX_SKIPPED`` overflows in a row.
        """
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.adamw)
        norms = [
            torch.nn.utils.clip_grad_norm_(group["params"], MAX_GRAD_NORM)
            for group in self.adamw.param_groups
            if any(parameter.grad is not None for parameter in group["params"])
        ]
        value, *sizes = torch.stack([loss.detach(), *norms]).cpu().tolist()
        if all(math.isfinite(size) for size in (value, *sizes)):
            self.skipped = 0
            return float(value)
        self.adamw.zero_grad()
        if not math.isfinite(value) or not self.scaler.is_enabled():
            raise DivergedError
        self.scaler.update()
        self.skipped += 1
        if self.skipped == MAX_SKIPPED:
            raise OverflowedError
        return None

    def step(self) -> None:
        """Move the weights, and keep those that the loss was finite with."""
        self.keep()
        self.is_first, self.is_moving = not self.adamw.state, True
        # Not through the scaler: it would wait for the device to hear again what is known.
        self.adamw.step()
        self.scaler.update()
        self.adamw.zero_grad()
        self.is_moving = False

    def undo(self) -> None:
        """Return to the weights before a step that failed, wherever it did.

        AdamW's moments are then as before it, too, or else ``is_whole`` is False.
        """
        self.adamw.zero_grad()
        # A scaler that has unscaled refuses to do so again before an update.
        stale, self.scaler = self.scaler, self._new_scaler()
        self.scaler.load_state_dict(stale.state_dict())
        if self.is_moving:
            self.roll_back()
            self.adamw.state.clear()
            self.is_whole, self.is_moving = self.is_first, False

    def _new_scaler(self) -> torch.GradScaler:
        return torch.GradScaler(self.device.type, FIRST_LOSS_SCALE, enabled=self.scaled)

    def keep(self) -> None:
        """Take the present weights for the last good ones."""
        torch._foreach_copy_(self.good, [p.detach() for p in self.parameters])

    def roll_back(self) -> None:
        """Return to the last weights that the loss was finite with."""
        torch._foreach_copy_([p.detach() for p in self.parameters], self.good)

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the weights by name, on the CPU."""
        state = self.trainables.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def moments(self) -> dict[str, Tensor]:
        """Return copies of AdamW's state, ``<parameter>.exp_avg`` and so on, on the CPU."""
        state: dict[int, dict[str, Any]] = self.adamw.state_dict()["state"]
        return {
            f"{self.names[index]}.{key}": entry[key].detach().cpu().clone()
            for index, entry in state.items()
            for key in _MOMENTS
        }

    def restore(
        self, weights: dict[str, Tensor], moments: dict[str, Tensor], scaler: dict[str, float]
    ) -> None:
        """Put a saved state back.

        Raises:
            ACFunError: it is another model's.
        """
        saved = self.adamw.state_dict()
        try:
            self.trainables.load_state_dict(weights)
            saved["state"] = {
                index: {key: moments[f"{name}.{key}"].clone() for key in _MOMENTS}
                for index, name in enumerate(self.names)
                if f"{name}.step" in moments
            }
            for name, parameter in zip(self.names, self.parameters, strict=True):
                moment = moments.get(f"{name}.exp_avg", parameter)
                if moment.shape != parameter.shape:
                    raise ValueError(Message("{name} has another shape", name=name))
            self.adamw.load_state_dict(saved)
            if scaler:
                self.scaler.load_state_dict(dict(scaler))
        except (RuntimeError, KeyError, ValueError) as error:
            raise ACFunError(STATE_MISFIT) from error
