"""What a call of the U-Net sees: which part of the picture, and under which prompts.

A U-Net is handed crops (areas of conditions, tiles of other packs) and parts of the batch (context
windows). Wrappers around the sampling note the whole latent, what is cut from it and the prompts;
where another pack cuts by itself, its part and its prompt are found by their values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from comfy.samplers import add_area_dims
from torch import Tensor

from ...acfun_ops.errors import ACFunError
from .crops import Crop, find_crop

_KEY = "acfun_view"

Conditions = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class View:
    """What is known of the picture that the U-Net sees a part of.

    size: height and width of the whole latent. latent: ``(n, c, h, w)``, what the areas of
    conditions are cut from. crops: of each of its samples, None if that is unknown. areas: height,
    width, top and left in ``latent`` by the uuid of a condition. negative: the uuids of what the
    guider takes for negative prompts, and positive of all others. prompts: of each list of
    conditions whether it is negative, in the order of ``cond_or_uncond``, and its embeddings
    ``(b, t, d)``.
    """

    size: tuple[int, int]
    latent: Tensor
    crops: tuple[Crop, ...] | None
    areas: Mapping[Any, tuple[int, int, int, int]]
    negative: frozenset[Any] = frozenset()
    positive: frozenset[Any] = frozenset()
    prompts: tuple[tuple[bool, tuple[Tensor, ...]], ...] = ()


def add_view(model: Any) -> None:
    """Have a MODEL note what its U-Net is about to see; once, however often it is asked."""
    for kind, wrapper in (
        (WrappersMP.PREDICT_NOISE, _note_latent),
        (WrappersMP.CALC_COND_BATCH, _note_conditions),
    ):
        model.remove_wrappers_with_key(kind, _KEY)
        model.add_wrapper_with_key(kind, _KEY, wrapper)


def as_images(x: Tensor) -> Tensor:
    """Return latents ``(b, c, h, w)`` of what a network is called with.

    Raises:
        ACFunError: there are several frames to each.
    """
    if x.ndim != 5:
        return x
    if x.shape[2] != 1:
        raise ACFunError(
            "Styles act on images, and this sampling has {frames} frames. Sample one at a time, or "
            "bypass the style.",
            frames=x.shape[2],
        )
    return x[:, :, 0]


def find_crops(
    x: Tensor, options: Mapping[str, Any]
) -> tuple[tuple[int, int], tuple[Crop, ...] | None]:
    """Return the size of the whole latent and the crop of each sample of ``x`` in it.

    Args:
        x: what the U-Net is called with, ``(b, c, h, w)``.
        options: the transformer_options of the call.

    Returns:
        ``(height, width)``, and None if ``x`` is a part of which nothing tells where it is.
    """
    view: View | None = options.get(_KEY)
    conditions = len(options.get("cond_or_uncond", [0]))
    images = len(x) if len(x) % conditions else len(x) // conditions
    if view is None:  # No sampler: x is all there is, once per condition.
        return full_crops(x, images)
    view = _narrow_to_window(view, images, options)
    return view.size, _condition_crops(x, view, options.get("uuids", ())) or _match_crops(x, view)


def full_crops(x: Tensor, images: int) -> tuple[tuple[int, int], tuple[Crop, ...]]:
    """Return what :func:`find_crops` does for whole latents; sample i is of image i mod images."""
    return _size(x), tuple(Crop(index % images, 0, 0) for index in range(len(x)))


def are_negative(
    x: Tensor, context: Tensor | None, options: Mapping[str, Any]
) -> tuple[bool, ...] | None:
    """Return of each sample of ``x`` whether it is drawn under a negative prompt.

    Args:
        x: what the U-Net is called with, ``(b, c, h, w)``.
        context: the prompt embeddings of the call, ``(b, t, d)``.
        options: the transformer_options of the call.

    Returns:
        None if another pack has put the batch together and nothing tells.
    """
    view: View | None = options.get(_KEY)
    lists: Sequence[int] = options.get("cond_or_uncond", [0])
    known = {} if view is None else {i: negative for i, (negative, _) in enumerate(view.prompts)}
    flags = [known.get(index, index > 0) for index in lists]
    is_whole = not len(x) % len(flags)
    if view is not None and view.prompts:
        view = _narrow_to_window(view, len(x) // len(flags), options)
        is_whole = _areas_of(x, view, options.get("uuids", ())) is not None
    if len(set(flags)) == 1:
        return (flags[0],) * len(x)
    if is_whole:
        each = max(1, len(x) // len(flags))
        return tuple(flag for flag in flags for _ in range(each))[: len(x)]
    return None if view is None or context is None else _match_prompts(context, view)


def _note_latent(
    executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], seed: Any = None
) -> Tensor:
    """Note the whole latent and the guider's prompts (a PREDICT_NOISE wrapper)."""
    prompts = getattr(executor.class_obj, "original_conds", {})
    uuids: dict[bool, set[Any]] = {False: set(), True: set()}
    for name, conditions in prompts.items():
        uuids["negative" in name] |= {cond.get("uuid") for cond in conditions or ()}
    whole = _full_view(as_images(x))
    view = replace(whole, negative=frozenset(uuids[True]), positive=frozenset(uuids[False]))
    return executor(x, timestep, _with_view(model_options, view), seed)


def _note_conditions(
    executor: Any,
    model: Any,
    conds: Sequence[Any],
    x_in: Tensor,
    timestep: Tensor,
    model_options: dict[str, Any],
) -> Any:
    """Note the part of the batch, and the conditions' areas and prompts (CALC_COND_BATCH)."""
    options = model_options.get("transformer_options", {})
    latent = as_images(x_in)
    whole = _narrow_to_window(options.get(_KEY) or _full_view(latent), len(latent), options)
    areas = {cond["uuid"]: _area(cond, latent) for condition in conds for cond in condition or ()}
    crops = _window_crops(latent, whole, model_options) or _match_crops(latent, whole)
    lists = [condition or () for condition in conds]
    prompts = tuple(zip(_sides(lists, whole), map(_embeddings, lists), strict=True))
    view = replace(whole, latent=latent, crops=crops, areas=areas, prompts=prompts)
    return executor(model, conds, x_in, timestep, _with_view(model_options, view))


def _with_view(model_options: dict[str, Any], view: View) -> dict[str, Any]:
    options = model_options.get("transformer_options", {})
    return {**model_options, "transformer_options": {**options, _KEY: view}}


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _full_view(x: Tensor) -> View:
    crops = tuple(Crop(frame, 0, 0) for frame in range(len(x)))
    return View(size=_size(x), latent=x, crops=crops, areas={})


def _area(cond: Mapping[str, Any], x_in: Tensor) -> tuple[int, int, int, int]:
    # As comfy.samplers.get_area_and_mult cuts it.
    size = _size(x_in)
    if "area" not in cond:
        return (*size, 0, 0)
    area = add_area_dims(list(cond["area"]), 2)
    half = len(area) // 2
    (height, width), (top, left) = area[:2], area[half : half + 2]
    return min(size[0] - top, height), min(size[1] - left, width), top, left


def _narrow_to_window(view: View, frames: int, options: Mapping[str, Any]) -> View:
    """Return what is known of the frames that AnimateDiff-Evolved says it has cut out, if it does.

    Frames may be equal, so that their values alone do not tell them apart.
    """
    window: Sequence[int] = options.get("ad_params", {}).get("sub_idxs") or ()
    if not len(window) == frames < len(view.latent):  # It also says so when the window is over.
        return view
    crops = view.crops and tuple(view.crops[frame] for frame in window)
    return replace(view, latent=view.latent[list(window)], crops=crops)


def _window_crops(
    x_in: Tensor, whole: View, model_options: Mapping[str, Any]
) -> tuple[Crop, ...] | None:
    """Return the crops of a context window's frames, or those of the whole if there is none."""
    window = model_options.get("transformer_options", {}).get("context_window")
    frames = list(range(len(whole.latent)))
    if window is not None and window.dim == 0:
        retained = getattr(model_options.get("context_handler"), "latent_retain_index_list", [])
        options = {"retain_index_list": retained} if retained else {}
        frames = window.get_tensor(torch.tensor(frames), **options).tolist()
    if (len(frames), *whole.latent.shape[1:]) != tuple(x_in.shape) or whole.crops is None:
        return None
    return tuple(whole.crops[frame] for frame in frames)


def _condition_crops(x: Tensor, view: View, uuids: Sequence[Any]) -> tuple[Crop, ...] | None:
    """Return the crops of a batch as ComfyUI puts it together: all frames for each condition."""
    areas = _areas_of(x, view, uuids)
    if areas is None or view.crops is None:
        return None
    return tuple(
        Crop(crop.frame, crop.top + top, crop.left + left)
        for _, _, top, left in areas
        for crop in view.crops
    )


def _areas_of(
    x: Tensor, view: View, uuids: Sequence[Any]
) -> list[tuple[int, int, int, int]] | None:
    """Return the area of each condition of a batch as ComfyUI puts it together, else None."""
    areas = [view.areas.get(uuid, (*_size(view.latent), 0, 0)) for uuid in uuids]
    is_whole_batch = len(x) == len(areas) * len(view.latent)
    return areas if is_whole_batch and {a[:2] for a in areas} == {_size(x)} else None


def _sides(lists: Sequence[Conditions], view: View) -> list[bool]:
    """Return of each list of conditions whether it is negative."""
    sides = [_guider_side(conditions, view) for conditions in lists]
    # Of several lists, the first may be what a pack has made of the positive. Alone, or beside the
    # positive, one that the guider does not know is no positive: Perp-Neg's empty prompt.
    has_stand_in = not view.positive or (len(lists) > 1 and False not in sides)
    return [
        side if side is not None else index > 0 or not has_stand_in
        for index, side in enumerate(sides)
    ]


def _guider_side(conditions: Conditions, view: View) -> bool | None:
    # Some guiders have the negative first, and a negative may be a copy of a positive's area.
    uuids = {cond["uuid"] for cond in conditions}
    if uuids & view.negative:
        return True
    return False if uuids & view.positive else None


def _embeddings(conditions: Conditions) -> tuple[Tensor, ...]:
    contexts = (cond.get("model_conds", {}).get("c_crossattn") for cond in conditions)
    return tuple(context.cond for context in contexts if context is not None)


def _match_prompts(context: Tensor, view: View) -> tuple[bool, ...] | None:
    """Return of each sample whether its prompt is negative, by its values; None if unclear."""
    flags = []
    for sample in context:
        sides = {
            negative
            for negative, embeddings in view.prompts
            for embedding in embeddings
            if _holds(sample, embedding)
        }
        if len(sides) != 1:
            return None
        flags.append(sides.pop())
    return tuple(flags)


def _holds(sample: Tensor, embedding: Tensor) -> bool:
    # ComfyUI repeats the shorter of two prompts of one batch.
    start = sample[: embedding.shape[1]]
    same = embedding.shape[1:] == start.shape
    return same and bool((embedding.to(start) == start).flatten(1).all(dim=1).any())


def _match_crops(x: Tensor, view: View) -> tuple[Crop, ...] | None:
    """Return where samples are cut from the latent, by their values: noise is nowhere twice."""
    fits = x.ndim == 4 and x.shape[1] == view.latent.shape[1]
    is_part = fits and all(a <= b for a, b in zip(_size(x), _size(view.latent), strict=True))
    if not is_part or view.crops is None:
        return None
    latent = view.latent.to(x.device)
    crops = []
    for sample in x:
        crop = find_crop(sample, latent)
        if crop is None:
            return None
        whole = view.crops[crop.frame or 0]
        frame = None if crop.frame is None else whole.frame
        crops.append(Crop(frame, whole.top + crop.top, whole.left + crop.left))
    return tuple(crops)
