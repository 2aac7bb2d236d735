"""One optimiser step on the trainables, with the way back to the last good weights."""

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import ACFunError
from .trainables import Trainables

MAX_GRAD_NORM = 1.0
VECTORS_EVERY = 4
# Steps that overflow are skipped; at torch's own 65536 a short training would lose its first ones.
FIRST_LOSS_SCALE = 1024.0

STATE_MISFIT = (
    "The training state does not fit this training. Delete it; training then goes on from the "
    "style's weights alone."
)

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class DivergedError(Exception):
    """The loss or its gradient is not finite."""


class Optimization:
    """AdamW with gradient clipping and, for fp16, a loss scaler.

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
        vectors = [f"vectors.{name}" for name in trainables.vectors]
        named = dict(trainables.named_parameters())
        self.trainables = trainables
        self.names = [name for name in named if name not in vectors] + vectors
        self.parameters: list[Tensor] = [named[name] for name in self.names]
        self.good = [parameter.detach().clone() for parameter in self.parameters]
        split = len(named) - len(vectors)
        self.adamw = torch.optim.AdamW(
            [
                {"params": self.parameters[:split], "lr": learning_rate},
                {"params": self.parameters[split:], "lr": learning_rate * VECTORS_EVERY},
            ]
        )
        self.scaler = torch.GradScaler(device.type, FIRST_LOSS_SCALE, enabled=scaled)

    def backward(self, loss: Tensor) -> float:
        """Compute and clip the gradients; return the loss as a number.

        Raises:
            DivergedError: the loss or, unscaled, its gradient is not finite.
        """
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.adamw)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRAD_NORM)
        if not self.scaler.is_enabled() and not torch.isfinite(norm):
            raise DivergedError
        return value

    def step(self) -> None:
        """Move the weights, and keep those that the loss was finite with."""
        self.keep()
        self.scaler.step(self.adamw)
        self.scaler.update()
        self.adamw.zero_grad()

    def keep(self) -> None:
        """Take the present weights for the last good ones."""
        torch._foreach_copy_(self.good, [p.detach() for p in self.parameters])

    def drop_gradients(self) -> None:
        """Forget the gradients of a step that failed."""
        self.adamw.zero_grad()

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
            self.adamw.load_state_dict(saved)
            if scaler:
                self.scaler.load_state_dict(dict(scaler))
        except (RuntimeError, KeyError, ValueError) as error:
            raise ACFunError(STATE_MISFIT) from error
