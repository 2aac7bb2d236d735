"""The mask of Apply CFun Adapters, and batches split or whole."""

from __future__ import annotations

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from stock_nodes import encode, sample

LONG = "a very long prompt about an old house by the sea, " * 12


@pytest.fixture(scope="module")
def draw(comfy):
    """Return a function that gives the last denoised latents of a model."""
    clip = comfy.checkpoint("sd1")[1]
    negative = encode(clip, "")
    prompts = {text: encode(clip, text) for text in ("a woman", LONG)}

    def draw(model, text="a woman", **options):
        return sample(model, prompts[text], negative, **options)[-1]

    return draw


def half_mask(height, width):
    mask = torch.zeros(1, height, width)
    mask[..., : width // 2] = 1
    return mask


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (64, 64), (300, 90)])
def test_black_mask_changes_nothing_and_a_white_one_all(acfun, model, draw, size):
    style, white = acfun.style(), torch.ones(1, *size)
    assert torch.equal(draw(acfun.adapt(model, style, mask=white * 0)), draw(model))
    full = draw(acfun.adapt(model, style))
    assert torch.allclose(draw(acfun.adapt(model, style, mask=white)), full, atol=1e-4)
    assert not torch.allclose(full, draw(model), atol=0.01)


def test_half_mask_differs_from_none_and_full(acfun, model, draw):
    style, mask = acfun.style(), half_mask(64, 64)
    half = draw(acfun.adapt(model, style, mask=mask))
    assert not torch.allclose(half, draw(model), atol=0.01)
    assert not torch.allclose(half, draw(acfun.adapt(model, style)), atol=0.01)
    assert not torch.allclose(half, draw(acfun.adapt(model, style, mask=1 - mask)), atol=0.01)


def test_mask_limits_the_insert_in_space(acfun, model, draw):
    outputs = []
    block = model.model.diffusion_model.get_submodule("input_blocks.1.0")
    hook = block.register_forward_hook(lambda module, args, output: outputs.append(output.clone()))
    try:
        draw(model, steps=1)
        draw(acfun.adapt(model, acfun.style(), mask=half_mask(64, 64)), steps=1)
    finally:
        hook.remove()
    plain, masked = outputs  # The block before it has no insert: both had the same input.
    assert torch.equal(plain[..., 5:], masked[..., 5:])
    assert not torch.isclose(plain[..., :4], masked[..., :4], atol=1e-3).any(dim=1).all()


def test_grey_mask_is_a_strength(acfun, model, draw):
    style, grey = acfun.style(), torch.full((1, 64, 64), 0.5)
    weak = draw(acfun.adapt(model, style, strength=0.5))
    assert torch.allclose(draw(acfun.adapt(model, style, mask=grey)), weak, atol=1e-4)
    assert not torch.allclose(draw(acfun.adapt(model, style)), weak, atol=0.01)


def test_each_picture_of_a_batch_has_its_mask(acfun, model, draw):
    style, mask = acfun.style(), torch.stack([torch.zeros(9, 9), torch.ones(9, 9)])
    plain, full = draw(model, batch=2), draw(acfun.adapt(model, style), batch=2)
    masked = draw(acfun.adapt(model, style, mask=mask), batch=2)
    assert torch.equal(masked[0], plain[0])
    assert torch.allclose(masked[1], full[1], atol=1e-4)
    assert not torch.allclose(plain[1], full[1], atol=0.01)


@pytest.fixture
def recorded_batches(model):
    """Return the batch sizes of the U-Net's calls, and the model that notes them."""
    batches = []

    def record(executor, x, *args, **kwargs):
        batches.append(len(x))
        return executor(x, *args, **kwargs)

    recorded = model.clone()
    recorded.add_wrapper(WrappersMP.APPLY_MODEL, record)
    return batches, recorded


@pytest.mark.parametrize("masks", [0, 1, 2, 3, 4])
def test_split_batches_give_the_same_picture(acfun, recorded_batches, draw, monkeypatch, masks):
    batches, recorded = recorded_batches
    coarse = torch.rand(max(masks, 1), 4, 4, generator=torch.Generator().manual_seed(3)).round()
    styled = acfun.adapt(recorded, acfun.style(), mask=coarse if masks else None)
    whole = draw(styled, steps=2, batch=3)
    assert batches == [6, 6]
    batches.clear()
    monkeypatch.setattr(type(recorded), "get_free_memory", lambda patcher, device: 0)
    split = draw(styled, steps=2, batch=3)
    assert batches == [3, 3, 3, 3]
    assert torch.allclose(whole, split, atol=1e-3)
    assert not torch.allclose(whole, draw(recorded, steps=2, batch=3), atol=0.01)


def test_a_batch_that_another_pack_has_split_is_masked(acfun, recorded_batches, draw):
    batches, recorded = recorded_batches
    styled = acfun.adapt(recorded, acfun.style(), mask=half_mask(64, 64))
    whole = draw(styled)

    def one_by_one(apply_model, call):
        inputs = zip(call["input"], call["timestep"], call["c"]["c_crossattn"], strict=True)
        options = {"transformer_options": call["c"]["transformer_options"]}
        return torch.cat(
            [apply_model(x[None], t[None], None, c[None], **options) for x, t, c in inputs]
        )

    split = styled.clone()
    split.set_model_unet_function_wrapper(one_by_one)
    batches.clear()
    assert torch.allclose(draw(split), whole, atol=1e-3)
    assert set(batches) == {1}


def test_prompts_of_different_lengths_are_styled(acfun, model, draw):
    plain = draw(model, LONG)
    styled = draw(acfun.adapt(model, acfun.style()), LONG)
    assert not torch.allclose(plain, styled, atol=0.01)
    assert torch.isfinite(styled).all()
