"""CFun on a ComfyUI model: a wrapper that hooks the inserts on for the length of one call."""

from typing import Any

import comfy.utils
import torch
from torch import Tensor

from ..acfun_ops.concrete_fusion import ConcreteFusion, PartStrengths, attached
from ..acfun_ops.errors import ACFunError
from ..acfun_ops.style_file import Style
from .comfy_unet import FAMILIES, context_width, insert_modules, insert_points, unet_of


class AdapterWrapper:
    """An APPLY_MODEL wrapper; immutable but for copies of the inserts on the devices it met.

    Args:
        style: whose inserts act.
        strengths: per part of the U-Net.
        start_percent, end_percent: the share of sampling in which they act, 0 to 1.
        mask: ``(b, 1, h, w)`` in [0, 1], or None for everywhere.
    """

    def __init__(
        self,
        style: Style,
        strengths: PartStrengths,
        start_percent: float,
        end_percent: float,
        mask: Tensor | None,
    ) -> None:
        self.strengths = strengths
        self.percents = (start_percent, end_percent)
        self.mask = mask
        self.style = style
        self.placed: dict[torch.device, dict[str, ConcreteFusion]] = {}

    def __call__(self, executor: Any, x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the model with the inserts attached, if this sigma ``t`` is in range."""
        base = executor.class_obj
        if not self._acts_at(t, base.model_sampling):
            return executor(x, t, *args, **kwargs)
        if x.device not in self.placed:
            inserts = self.style.inserts()
            self.placed[x.device] = {name: i.to(x.device) for name, i in inserts.items()}
        inserts = self.placed[x.device]
        where = self.style.facts.insert_at
        modules = insert_modules(base.diffusion_model, list(inserts), where)
        # The batch holds the images once per condition, in order.
        mask = None if self.mask is None else comfy.utils.repeat_to_batch_size(self.mask, len(x))
        with attached(inserts, modules, self.strengths, mask):
            return executor(x, t, *args, **kwargs)

    def _acts_at(self, sigma: Tensor, sampling: Any) -> bool:
        if self.percents == (0.0, 1.0):
            return True
        start, end = (sampling.percent_to_sigma(percent) for percent in self.percents)
        return end <= float(sigma[0]) <= start


def check_fits(style: Style, model: Any) -> None:
    """Refuse a style whose inserts do not fit a ComfyUI MODEL.

    Raises:
        ACFunError: the model has no U-Net, or is of another family or other widths.
    """
    unet = unet_of(model)
    points = insert_points(unet, style.facts.insert_at)
    widths = {block: point.channels for block, point in points.items()}
    if style.block_widths != widths:
        family = FAMILIES[context_width(unet)]
        raise ACFunError(
            f"The style was trained on {style.facts.family} ({len(style.concrete)} blocks); the "
            f"connected model is {family} ({len(widths)} blocks) and differs in blocks or widths. "
            f"Load a {style.facts.family} checkpoint like the one it was trained on, or train a "
            "new style on this one."
        )
