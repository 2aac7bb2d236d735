"""How far a training run has come: all that its checkpoint holds, and the way back over a step."""

import torch
from torch import Tensor

from ..errors import ACFunError
from .checkpoint import TrainState
from .optimizer import STATE_MISFIT, Optimization


class Progress:
    """Steps done, losses, randomness, and what lasts longer than a step.

    Args:
        optimization: holds the weights and their moments.
        generator: samples everything random in the run, on the CPU.
    """

    def __init__(self, optimization: Optimization, generator: torch.Generator) -> None:
        self.optimization, self.generator = optimization, generator
        self.step = 0
        self.losses: list[float] = []
        self.kept: dict[str, Tensor] = {}
        self.mark()

    def mark(self) -> None:
        """Take what is now for the place to go back to."""
        self.random_state = self.generator.get_state()
        self.kept_then = dict(self.kept)

    def finish_step(self, loss: float) -> None:
        """Count a step whose weights have moved."""
        self.step += 1
        self.losses.append(loss)
        self.mark()

    def go_back(self) -> None:
        """Forget a step that failed half-way."""
        self.optimization.undo()
        self.generator.set_state(self.random_state)
        self.kept.clear()
        self.kept.update(self.kept_then)

    def unlearn_step(self) -> None:
        """Take back the last whole step; its moments and randomness are not restored."""
        self.optimization.roll_back()
        self.step, self.losses = self.step - 1, self.losses[:-1]

    def state(self, run: str) -> TrainState:
        """Return copies of all of it, on the CPU."""
        return TrainState(
            run=run,
            step=self.step,
            weights=self.optimization.weights(),
            moments=self.optimization.moments(),
            generator=self.random_state,
            losses=torch.tensor(self.losses, dtype=torch.float64),
            scaler=self.optimization.scaler.state_dict(),
            kept={name: tensor.cpu() for name, tensor in self.kept_then.items()},
        )

    def restore(self, state: TrainState, device: torch.device) -> None:
        """Put a saved state back.

        Raises:
            ACFunError: it is another training's.
        """
        try:
            self.generator.set_state(state.generator)
        except RuntimeError as error:
            raise ACFunError(STATE_MISFIT) from error
        self.optimization.restore(state.weights, state.moments, state.scaler)
        self.step, self.losses = state.step, state.losses.tolist()
        self.kept.update({name: tensor.to(device) for name, tensor in state.kept.items()})
        self.mark()

    def count_on(self, step: int, seed: int) -> None:
        """Go on from a step of which only the weights are known."""
        self.step = step
        self.generator.manual_seed((seed + step) % 2**64)
        self.mark()
