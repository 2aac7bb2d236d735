"""CFun on a ComfyUI model: a wrapper that hooks the inserts on for the length of one call."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import comfy.utils
import torch
from torch import Tensor
from torch.nn import functional as F

from ..acfun_ops.backbones.backbone import family_of
from ..acfun_ops.errors import ACFunError
from ..acfun_ops.method.concrete_fusion import ConcreteFusion, PartStrengths, attached
from ..acfun_ops.style.style import Style
from .comfy_unet import context_width, insert_modules, insert_points, unet_of


class AdapterWrapper:
    """An APPLY_MODEL wrapper; immutable but for copies of inserts and mask on the devices it met.

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
        self.masks: dict[tuple[torch.Size, torch.device], Tensor] = {}

    def __call__(self, executor: Any, x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the model with the inserts attached, if this sigma ``t`` is in range."""
        base = executor.class_obj
        if not self._acts_at(t, base.model_sampling):
            return executor(x, t, *args, **kwargs)
        if x.device not in self.placed:
            with torch.inference_mode(False):  # so that a training may run through them, too
                inserts = self.style.inserts()
            self.placed[x.device] = {name: i.to(x.device) for name, i in inserts.items()}
        inserts = self.placed[x.device]
        where = self.style.facts.insert_at
        modules = insert_modules(base.diffusion_model, list(inserts), where)
        mask = self._mask_for(x, *args, **kwargs)
        with attached(inserts, modules, self.strengths, mask):
            return executor(x, t, *args, **kwargs)

    def _mask_for(
        self,
        x: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] = MappingProxyType({}),
        **kwargs: Any,
    ) -> Tensor | None:
        if self.mask is None:
            return None
        size = (x.shape[-2:], x.device)
        if size not in self.masks:
            # Once to the latent's size; the blocks then have little left to shrink.
            self.masks[size] = F.interpolate(
                self.mask.to(x.device, torch.float32),
                size=x.shape[-2:],
                mode="bilinear",
                antialias=True,
            )
        # The batch holds all images once per condition, unless another pack has split it.
        conditions = len(transformer_options.get("cond_or_uncond", [0]))
        conditions = 1 if len(x) % conditions else conditions
        images = len(x) // conditions
        return comfy.utils.repeat_to_batch_size(self.masks[size], images).repeat(
            conditions, 1, 1, 1
        )

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
    family = family_of(context_width(unet))
    if style.facts.family != family or style.block_widths != widths:
        raise ACFunError(
            f"The style was trained on {style.facts.family} ({len(style.concrete)} blocks); the "
            f"connected model is {family} ({len(widths)} blocks) and differs in blocks or widths. "
            f"Load a {style.facts.family} checkpoint like the one it was trained on, or train a "
            "new style on this one."
        )
