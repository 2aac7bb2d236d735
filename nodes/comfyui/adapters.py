"""CFun on a ComfyUI model: a wrapper that hooks the inserts on for the length of one call."""

from collections.abc import Mapping
from contextlib import ExitStack
from threading import Lock
from types import MappingProxyType
from typing import Any

import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ...acfun_ops.method.concrete_fusion import FoldedFusion
from ...acfun_ops.method.injection import BlockMask, Site, attach_adapters, fold_adapters
from ...acfun_ops.style import compatibility as model_match
from ...acfun_ops.style.style import Style
from . import adapter_warnings as warnings
from .batch_view import add_view, are_negative, as_images, find_crops, full_crops
from .crops import crop_mask, has_other_aspect
from .families import LAYOUTS, Network, network_of
from .node_status import NodeStatus, check_connected
from .schedule import BOTH, CONSTANT, NEGATIVE, WHOLE, AdapterSchedule, span_of
from .sites import TokenGrid, insert_points
from .torch_compile import eager_call

_KEY = "acfun"
_MAX_MASKS = 64  # Of one sampling run: tiles times their sizes.
_masks_lock = Lock()  # ComfyUI samples on several GPUs in a thread each.


class AdapterWrapper:
    """A style's inserts on a MODEL; :meth:`add_to` adds what it wraps to a clone.

    Args:
        style: whose inserts act.
        strengths: how strongly each acts, by block.
        schedule: when in the sampling, and under which prompts.
        mask: ``(m, 1, h, w)`` in [0, 1] over the whole picture, or None for everywhere.
        status: of the node, for warnings.
    """

    def __init__(
        self,
        style: Style,
        strengths: Mapping[str, float],
        schedule: AdapterSchedule,
        mask: Tensor | None,
        status: NodeStatus,
    ) -> None:
        self.schedule = schedule
        self.style = style
        self.strengths = strengths
        self.status = status
        self.has_acted = self.was_due = False
        self._span = WHOLE
        with torch.inference_mode(False):  # so that a training may run through it, too
            self.mask = None if mask is None else mask.clone()
        self._placed: dict[torch.device, dict[str, FoldedFusion]] = {}
        self._masks: dict[tuple[Any, ...], BlockMask] = {}
        self._held = ExitStack()

    def add_to(self, model: Any) -> None:
        """Add the wrappers to a MODEL, a clone of the caller's."""
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, _KEY, self.apply)
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, _KEY, self.sample)
        model.add_callback_with_key(CallbacksMP.ON_PRE_RUN, _KEY, self.status.begin)
        model.add_callback_with_key(CallbacksMP.ON_CLEANUP, _KEY, self.release)
        model.add_callback_with_key(CallbacksMP.ON_LOAD, _KEY, self._warn_of_difference)
        model.add_object_patch("model_config", self._config_with_save_warning(model))
        if self.mask is not None or self.schedule.applies_to != BOTH:
            add_view(model)

    def apply(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] = MappingProxyType({}),
        **kwargs: Any,
    ) -> Tensor:
        """Run the model with the inserts attached, if they act at ``t`` under any prompt."""
        self.release()
        base, arguments = executor.class_obj, (c_concat, c_crossattn, control, transformer_options)
        amounts = self._amounts(x, t, c_crossattn, transformer_options, base.model_sampling)
        if not any(amounts):
            return executor(x, t, *arguments, **kwargs)
        self.was_due = True
        inserts = self._adapters_on(x.device)
        mask = self._mask_for(as_images(x), transformer_options, amounts)
        sites = self._sites(base, x)
        with ExitStack() as stack:
            hooks = stack.enter_context(attach_adapters(inserts, sites, mask=mask))
            with eager_call(base.diffusion_model, transformer_options, self.status.add_warning):
                output: Tensor = executor(x, t, *arguments, **kwargs)
            self.has_acted = self.has_acted or any(hook.has_acted for hook in hooks)
            if output.requires_grad:  # The backward pass may compute blocks again.
                self._held = stack.pop_all()
        return output

    def sample(
        self,
        executor: Any,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Any,
        sigmas: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Run a whole sampling, and say so if the inserts have hardly or not acted in it."""
        self.has_acted = self.was_due = False
        sampling = executor.class_obj.model_patcher.get_model_object("model_sampling")
        is_eased = self.schedule.ease != CONSTANT and len(sigmas)
        span = self._span = span_of(sigmas.tolist(), sampling) if is_eased else WHOLE
        try:
            output: Tensor = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        finally:
            self.release()
            self._span = WHOLE
            with _masks_lock:
                self._masks.clear()  # They belong to this sampling run, and take GPU memory.
        size = latent_image.shape[-2:]
        if self.mask is not None and has_other_aspect(self.mask, size):
            self.status.add_warning(warnings.other_aspect(self.mask, size))
        if steps := sigmas[:-1].tolist():
            due = self.schedule.strengths_in(steps, sampling, span)
            if text := self._weakness_warning(executor.class_obj.model_options, due):
                self.status.add_warning(text)
        return output

    def release(self, *_: Any) -> None:
        """Take off what a call under autograd has left attached for its backward pass."""
        self._held.close()

    def _weakness_warning(self, options: Mapping[str, Any], due: list[float]) -> str:
        """Return why the inserts hardly act in steps of which these are due; "" if they do."""
        if due and max(due) < warnings.SLIVER:
            return warnings.sliver(self.schedule.ease, max(due))
        if self.has_acted:
            return ""
        if not self.was_due and not due:
            return warnings.NO_STEP
        if not self.was_due and self.schedule.applies_to != BOTH:
            return warnings.other_prompts(self.schedule.applies_to)
        return warnings.bypass(options)

    def _warn_of_difference(self, patcher: Any, *_: Any) -> None:
        """Say what is lost where this MODEL less another one is loaded, to make a LoRA of it."""
        if warnings.is_difference(patcher):
            self.status.begin()
            self.status.add_warning(warnings.NO_DIFFERENCE)

    def _adapters_on(self, device: torch.device) -> dict[str, FoldedFusion]:
        if device not in self._placed:
            with torch.inference_mode(False):
                self._placed[device] = fold_adapters(self.style.inserts(), self.strengths, device)
        return self._placed[device]

    def _sites(self, base: Any, x: Tensor) -> dict[str, Site]:
        facts = self.style.facts
        network = Network(base.diffusion_model, facts.family, LAYOUTS.get(facts.family))
        grid = TokenGrid(network)
        grid.look_at(x)
        points = insert_points(network, facts.insert_at, grid)
        return {block: point.module for block, point in points.items()}

    def _mask_for(
        self, x: Tensor, options: Mapping[str, Any], amounts: tuple[float, ...]
    ) -> BlockMask | None:
        each = None
        if set(amounts) != {1.0}:
            each = torch.tensor(amounts, device=x.device).view(-1, 1, 1, 1)
        if self.mask is None:
            return None if each is None else BlockMask(each)
        size, crops = find_crops(x, options)
        if crops is None:
            self.status.add_warning(
                "Another node shows the network a changed part of the picture, and nothing tells "
                "which: the mask is stretched over each part. Disconnect the mask or bypass that "
                "node (tiles, resizing)."
            )
            size, crops = full_crops(x, len(x))
        elif len(self.mask) > 1 and any(crop.frame is None for crop in crops):
            self.status.add_warning(
                "Another node shows the network one of several equal pictures of the batch, and "
                "nothing tells which: the first mask is used. Connect one mask or bypass that node."
            )
        key = (x.device, size, crops, x.shape[-2:], amounts)
        with _masks_lock:
            if key not in self._masks:
                if len(self._masks) >= _MAX_MASKS:
                    self._masks.pop(next(iter(self._masks)))
                with torch.inference_mode(False):
                    mask = self.mask.to(x.device, torch.float32)
                    cropped = crop_mask(mask, size, crops, x.shape[-2:])
                    self._masks[key] = BlockMask(cropped if each is None else cropped * each)
            return self._masks[key]

    def _amounts(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None,
        options: Mapping[str, Any],
        sampling: Any,
    ) -> tuple[float, ...]:
        """Return how strongly the inserts act on each sample, 0 to 1."""
        applies_to, amount = self.schedule.applies_to, 1.0
        if self.schedule != AdapterSchedule(applies_to=applies_to):
            amount = self.schedule.strength_at(float(t[0]), sampling, self._span)
        if applies_to == BOTH or amount == 0:
            return (amount,) * len(x)
        negative = are_negative(as_images(x), context, options)
        if negative is None:
            self.status.add_warning(
                "Another node puts the prompts together in a way of its own, and nothing tells the "
                "positive from the negative: the style acts on both. Bypass that node, or set "
                "applies_to to both."
            )
            return (amount,) * len(x)
        return tuple(amount * (flag == (applies_to == NEGATIVE)) for flag in negative)

    def _config_with_save_warning(self, model: Any) -> Any:
        """Return the model's configuration, which is asked for the U-Net's keys on saving only."""
        shared = model.get_model_object("model_config")
        config = object.__new__(type(shared))  # Its __getattr__ does not let copy() work.
        vars(config).update(vars(shared))
        process = config.process_unet_state_dict_for_saving

        def process_with_warning(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
            self.status.begin()
            self.status.add_warning(warnings.SAVED_WITHOUT)
            result: dict[str, Tensor] = process(state_dict)
            return result

        config.process_unet_state_dict_for_saving = process_with_warning
        return config


def apply_adapters(
    model: Any,
    style: Style,
    strengths: Mapping[str, float],
    schedule: AdapterSchedule,
    mask: Tensor | None,
    status: NodeStatus,
) -> Any:
    """Return a clone of a MODEL with a style's inserts, or the very MODEL if none would act.

    Arguments are those of :class:`AdapterWrapper`.
    """
    if not any(strengths.values()) or (mask is not None and not mask.any()):
        return model
    styled = model.clone()
    AdapterWrapper(style, strengths, schedule, mask, status).add_to(styled)
    return styled


def check_fits(style: Style, model: Any) -> None:
    """Refuse a style whose inserts do not fit a ComfyUI MODEL.

    Raises:
        ACFunError: there is no model, or it is of another kind than the style.
    """
    check_connected(model=model)
    network = network_of(model)
    points = insert_points(network, style.facts.insert_at, TokenGrid(network))
    widths = {block: point.channels for block, point in points.items()}
    shape = model_match.ModelShape(network.family, network.context_width, widths)
    model_match.check_fits(style, shape)
