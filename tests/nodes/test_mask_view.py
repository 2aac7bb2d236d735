"""Masks act where they were painted, whatever part of the picture or batch the U-Net sees.

Every test samples one step, so that each part of the result depends on its own part of the input,
and holds it against the plain and the fully styled picture under the very same cutting.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import comfy.context_windows
import comfy.sample
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from stock_nodes import encode, sample

import nodes


@pytest.fixture(scope="module")
def prompts(comfy):
    clip = comfy.checkpoint("sd1")[1]
    return encode(clip, "a woman"), encode(clip, "")


@torch.inference_mode()
def draw(model, positive, negative, batch=1, steps=1, equal=False):
    """Return the denoised latent, 8 x 16, of the last step, of noise equal in all pictures or not.

    Equal noise is what AnimateDiff's "constant" gives.
    """
    latent = comfy.sample.fix_empty_latent_channels(model, torch.zeros(batch, 4, 8, 16))
    noise, denoised = comfy.sample.prepare_noise(latent, 5), []
    if equal:
        noise = noise[:1].expand_as(noise).contiguous()
    settings = (7.0, "euler", "normal", positive, negative, latent)
    note = {"callback": lambda step, x0, x, total: denoised.append(x0.clone())}
    comfy.sample.sample(model, noise, steps, *settings, **note, disable_pbar=True, seed=5)
    return denoised[-1]


def left_white(height=64, width=128):
    mask = torch.zeros(1, height, width)
    mask[..., : width // 2] = 1
    return mask


@torch.inference_mode()
def in_area(conditioning, x, width=64):
    return nodes.ConditioningSetArea().append(conditioning, width, 64, x, 0, 1.0)[0]


@torch.inference_mode()
def in_mask_bounds(conditioning, mask):
    return nodes.ConditioningSetMask().append(conditioning, mask, "mask bounds", 1.0)[0]


@pytest.mark.parametrize("steps", [1, 3])
def test_mask_black_in_the_area_of_the_conditions_changes_nothing(acfun, model, prompts, steps):
    right = [in_area(prompt, 64) for prompt in prompts]
    masked = acfun.adapt(model, acfun.style(), mask=left_white())
    plain = draw(model, *right, steps=steps)
    assert torch.equal(draw(masked, *right, steps=steps), plain)
    full = draw(acfun.adapt(model, acfun.style()), *right, steps=steps)
    other = acfun.adapt(model, acfun.style(), mask=1 - left_white())
    assert torch.allclose(draw(other, *right, steps=steps), full, atol=1e-4)
    assert not torch.allclose(plain, full, atol=0.01)


def test_mask_bounds_are_an_area(acfun, model, prompts):
    right = [in_mask_bounds(prompt, 1 - left_white()) for prompt in prompts]
    masked = acfun.adapt(model, acfun.style(), mask=left_white())
    assert torch.equal(draw(masked, *right), draw(model, *right))
    other = acfun.adapt(model, acfun.style(), mask=1 - left_white())
    assert not torch.allclose(draw(other, *right), draw(model, *right), atol=0.01)


def halves_are(masked, full, plain):
    """Tell whether the left half is the styled picture's and the right half the plain one's."""
    left, right = slice(None, 8), slice(8, None)
    assert not torch.allclose(full[..., left], plain[..., left], atol=0.01)
    assert not torch.allclose(full[..., right], plain[..., right], atol=0.01)
    is_plain = torch.equal(masked[..., right], plain[..., right])
    return is_plain and torch.allclose(masked[..., left], full[..., left], atol=1e-4)


@pytest.mark.parametrize("is_percent", [False, True])
def test_areas_in_one_batch_have_their_own_parts(acfun, model, prompts, is_percent):
    def both(prompt):
        if not is_percent:
            return in_area(prompt, 0) + in_area(prompt, 64)
        setter = nodes.ConditioningSetAreaPercentage()
        return [
            part for x in (0.0, 0.5) for part in setter.append(prompt, 0.5, 1.0, x, 0.0, 1.0)[0]
        ]

    conditions = [both(prompt) for prompt in prompts]
    styled = acfun.adapt(model, acfun.style())
    masked = acfun.adapt(model, acfun.style(), mask=left_white())
    drawn = [draw(m, *conditions) for m in (masked, styled, model)]
    assert halves_are(*drawn)


def tiled(model, roll=0):
    """Return a model whose U-Net sees tiles of 8 x 8, all in one batch, as TiledDiffusion does."""

    def cut(apply_model, call):
        x, c = call["input"].roll(roll, -1), dict(call["c"])
        c.pop("control", None)
        tiles = [slice(left, left + 8) for left in (0, 8)]
        context = c["c_crossattn"].repeat(len(tiles), 1, 1)
        batch = torch.cat([x[..., tile] for tile in tiles])
        times = call["timestep"].repeat(len(tiles))
        result = apply_model(batch, times, **c | {"c_crossattn": context}).chunk(len(tiles))
        return torch.cat(result, dim=-1).roll(-roll, -1)

    clone = model.clone()
    clone.set_model_unet_function_wrapper(cut)
    return clone


@pytest.mark.parametrize("batch", [1, 2])
def test_tiles_of_another_pack_have_their_own_parts(acfun, model, prompts, batch):
    styled = acfun.adapt(model, acfun.style())
    masked = acfun.adapt(model, acfun.style(), mask=left_white())
    acfun.texts.clear()
    drawn = [draw(tiled(m), *prompts, batch=batch) for m in (masked, styled, model)]
    assert halves_are(*drawn)
    assert acfun.texts == []


def test_tiles_of_a_rolled_picture_have_their_own_parts(acfun, model, prompts):
    styled, mask = acfun.adapt(model, acfun.style()), left_white().roll(-32, -1)
    masked = acfun.adapt(model, acfun.style(), mask=mask)
    drawn = [draw(tiled(m, roll=4), *prompts).roll(4, -1) for m in (masked, styled, model)]
    assert halves_are(*drawn)


def windowed(model, overlap):
    """Return a model with context windows of two frames."""
    windows = comfy.context_windows
    handler = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule("standard_static"),
        fuse_method=windows.get_matching_fuse_method("flat"),
        context_length=2,
        context_overlap=overlap,
        dim=0,
    )
    clone = model.clone()
    clone.model_options["context_handler"] = handler
    return clone


@pytest.mark.parametrize("overlap", [0, 1])
def test_frames_keep_their_masks_in_context_windows(acfun, model, prompts, overlap):
    mask = torch.stack([torch.full((64, 128), float(frame in (1, 3))) for frame in range(4)])
    styled = acfun.adapt(model, acfun.style())
    masked = acfun.adapt(model, acfun.style(), mask=mask)
    # ComfyUI 0.3.64 takes windows of a batch only if it has as many frames as there are sigmas.
    settings = {"batch": 4, "steps": 3}
    result, full, plain = (
        draw(windowed(m, overlap), *prompts, **settings) for m in (masked, styled, model)
    )
    for frame in range(4):
        assert not torch.allclose(full[frame], plain[frame], atol=0.01)
        assert torch.equal(result[frame], plain[frame]) == (frame in (0, 2))
        assert torch.allclose(result[frame], full[frame], atol=1e-3) == (frame in (1, 3))


def one_by_one(model):
    """Return a model whose U-Net sees one picture and one condition at a time."""

    def split(apply_model, call):
        inputs = zip(call["input"], call["timestep"], call["c"]["c_crossattn"], strict=True)
        options = {"transformer_options": call["c"]["transformer_options"]}
        parts = [apply_model(x[None], t[None], None, c[None], **options) for x, t, c in inputs]
        return torch.cat(parts)

    clone = model.clone()
    clone.set_model_unet_function_wrapper(split)
    return clone


def test_frames_keep_their_masks_when_another_pack_splits_the_batch(acfun, model, prompts):
    mask = torch.stack([torch.zeros(64, 128), torch.ones(64, 128)])
    styled = acfun.adapt(model, acfun.style())
    masked = acfun.adapt(model, acfun.style(), mask=mask)
    result, full, plain = (draw(one_by_one(m), *prompts, batch=2) for m in (masked, styled, model))
    assert torch.equal(result[0], plain[0]) and torch.allclose(result[1], full[1], atol=1e-4)
    assert not torch.allclose(plain[1], full[1], atol=0.01)


def test_equal_pictures_that_another_pack_splits_are_said_to_have_one_mask(acfun, model, prompts):
    mask = torch.stack([torch.zeros(64, 128), torch.ones(64, 128)])
    acfun.texts.clear()
    masked = one_by_one(acfun.adapt(model, acfun.style(), mask=mask))
    result = draw(masked, *prompts, batch=2, equal=True)
    assert torch.equal(result, draw(one_by_one(model), *prompts, batch=2, equal=True))
    assert len(acfun.texts) == 1 and "the first mask is used" in acfun.texts[0]
    one_mask = one_by_one(acfun.adapt(model, acfun.style(), mask=left_white()))
    draw(one_mask, *prompts, batch=2, equal=True)
    assert len(acfun.texts) == 1


def test_a_part_that_cannot_be_known_is_said_once(acfun, model, prompts, caplog):
    def halve(apply_model, call):
        small = torch.nn.functional.interpolate(call["input"], scale_factor=0.5)
        result = apply_model(small, call["timestep"], **call["c"])
        return torch.nn.functional.interpolate(result, scale_factor=2)

    masked = acfun.adapt(model, acfun.style(), mask=left_white())
    masked.set_model_unet_function_wrapper(halve)
    with caplog.at_level("INFO", logger="ACFun"):
        draw(masked, *prompts, steps=3)
    said = "nothing tells which: the mask is stretched over each part"
    assert sum(said in text for text in caplog.messages) == 1
    assert any(said in text for text in acfun.texts)


def test_chained_styles_have_masks_of_their_own(acfun, model, prompts):
    right = [in_area(prompt, 64) for prompt in prompts]
    one = acfun.adapt(model, acfun.style(), mask=left_white())
    both = acfun.adapt(one, acfun.style("sd1", 1), mask=1 - left_white())
    second = acfun.adapt(model, acfun.style("sd1", 1), mask=1 - left_white())
    assert torch.equal(draw(both, *right), draw(second, *right))


def test_no_mask_stays_on_the_card_after_a_sampling(acfun, model, prompts):
    masked = acfun.adapt(model, acfun.style(), mask=left_white())
    adapter = masked.wrappers[WrappersMP.APPLY_MODEL]["acfun"][0].__self__
    kept = []

    def count(apply_model, call):
        result = apply_model(call["input"], call["timestep"], **call["c"])
        kept.append(len(adapter._masks))
        return result

    masked.set_model_unet_function_wrapper(count)
    draw(masked, *prompts, steps=2)
    assert kept == [1, 1] and adapter._masks == {}


def test_the_shared_model_stays_plain(acfun, model, prompts):
    right = [in_area(prompt, 64) for prompt in prompts]
    before = draw(model, *right), sample(model, *prompts)[-1]
    draw(acfun.adapt(model, acfun.style(), mask=left_white()), *right)
    assert torch.equal(draw(model, *right), before[0])
    assert torch.equal(sample(model, *prompts)[-1], before[1])


def test_several_threads_share_the_masks_of_a_sampling(acfun, model, monkeypatch):
    from acfun_pack.nodes.comfyui import adapters

    class SlowDict(dict):
        def __getitem__(self, key):
            time.sleep(0.3)  # As long as another thread needs to drop the mask.
            return super().__getitem__(key)

    masked = acfun.adapt(model, acfun.style(), mask=left_white())
    adapter = masked.wrappers[WrappersMP.APPLY_MODEL]["acfun"][0].__self__
    adapter._masks = SlowDict()
    monkeypatch.setattr(adapters, "_MAX_MASKS", 1)

    def mask_of(side):
        return adapter._mask_for(torch.zeros(1, 4, side, side), {}, (1.0,))

    with ThreadPoolExecutor(2) as threads:
        assert len(list(threads.map(mask_of, [8, 16] * 2))) == 4
