"""Previews of a training run: when they are due, and what they show."""

import math

import torch

from ..sampling.sampler import StoppedError
from .events import OnEvent, PreviewEvent, SamplingEvent, WarningEvent
from .styled_model import StyledModel

# A preview of so few steps costs about as much as three steps of training.
PREVIEW_STEPS = 7
PREVIEW_GUIDANCE = 5.0


def due_steps(every: int, total: int, first: int = 0) -> set[int]:
    """Return the steps after which a preview is generated.

    Args:
        every: so many steps, and after the last; 0 turns previews off.
        total: steps of the run in all.
        first: steps done before this run, whose first preview comes within its first tenth.
    """
    if every == 0:
        return set()
    tenth = first + math.ceil((total - first) / 10)
    return {min(tenth, first - first % every + every), *range(every, total, every), total}


class Previews:
    """Generates the training prompt with the style as it is, always from the same noise.

    Args:
        model: what generates.
        on_event: is told of each sampling step, which it may stop at, and of the image.
        first: steps done before this run.
    """

    def __init__(self, model: StyledModel, on_event: OnEvent, first: int) -> None:
        self.model, self.on_event = model, on_event
        self.due = due_steps(model.config.preview_every, model.config.steps, first)

    def show(self, step: int) -> bool:
        """Generate a preview if one is due; return whether to stop training."""
        if step not in self.due:
            return False
        same_noise = torch.Generator().manual_seed(self.model.config.seed)
        backbone = self.model.backbone
        try:
            latents = self.model.sample(
                same_noise, PREVIEW_STEPS, PREVIEW_GUIDANCE, lambda: self.on_event(SamplingEvent())
            )
            image = backbone.preview(latents)
        except StoppedError:
            return True
        except (RuntimeError, MemoryError) as error:
            if not backbone.is_out_of_memory(error):
                raise
            self.due = set()
            return self.on_event(WarningEvent("Out of memory in a preview: previews are now off."))
        return self.on_event(PreviewEvent(step, image))
