"""Training through a MODEL that carries a style, with blocks recomputed in the backward pass."""

from __future__ import annotations

import pytest
import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from comfy_extras.nodes_train import TrainLoraNode
from stock_nodes import encode, leftovers, sample
from torch import nn

LORA = {
    "batch_size": 1,
    "steps": 1,
    "grad_accumulation_steps": 1,
    "learning_rate": 1e-3,
    "rank": 2,
    "optimizer": "SGD",
    "loss_function": "MSE",
    "seed": 0,
    "training_dtype": "fp32",
    "lora_dtype": "fp32",
    "quantized_backward": False,
    "algorithm": "LoRA",
    "checkpoint_depth": 1,
    "offloading": False,
    "existing_lora": "[None]",
    "bucket_mode": False,
    "bypass_mode": False,
}


def left_white():
    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1
    return mask


@pytest.mark.parametrize("mask", [None, left_white()], ids=["no mask", "mask"])
def test_our_training_gives_the_same_with_checkpointing(acfun, comfy, model, mask):
    clip = comfy.checkpoint("sd1")[1]
    prompts = encode(clip, "a woman"), encode(clip, "")
    before = sample(model, *prompts)[-1]
    styled = acfun.adapt(model, acfun.style(), mask=mask)
    sample(styled, *prompts)  # what inference has cached must not reach the training
    off = acfun.train(model=styled, gradient_checkpointing="off")[1]
    on = acfun.train(model=styled, gradient_checkpointing="on")[1]
    plain = acfun.losses(gradient_checkpointing="on")
    assert on == pytest.approx(off, rel=1e-4)
    assert on != pytest.approx(plain, rel=1e-3)
    assert leftovers(model.model) == []
    assert torch.equal(sample(model, *prompts)[-1], before)


def test_checkpointing_gives_modules_back_the_forward_that_another_pack_gave_them(
    acfun, comfy, model
):
    layers = comfy.checkpoint("sd1")[1].cond_stage_model.clip_l.transformer.text_model.encoder
    modules = [model.model.diffusion_model.middle_block[0], layers.layers[0]]
    given = []
    for module in modules:
        calls = []
        module.forward = lambda *args, own=module.forward, calls=calls: (
            calls.append(args) or own(*args)
        )
        given.append((module.forward, calls))
    try:
        acfun.train(gradient_checkpointing="on")
        assert [module.forward for module in modules] == [forward for forward, _ in given]
        assert all(calls for _, calls in given)
    finally:
        for module in modules:
            vars(module).pop("forward", None)


def with_moving_weights(model, moves_in):
    """Return a MODEL with a patch that moves its own weights in a callback or where it is used."""
    with torch.inference_mode():
        net = nn.Linear(4, 4, bias=False, dtype=torch.float16)
        net.weight.copy_(0.8 * torch.eye(4))

    def move(*_):
        net.to(torch.float32)

    def wrapper(executor, x, *args, **kwargs):
        if moves_in == "use":
            move()
        return executor(net(x.movedim(1, -1)).movedim(-1, 1).contiguous(), *args, **kwargs)

    patched = model.clone()
    patched.add_wrapper(WrappersMP.APPLY_MODEL, wrapper)
    if moves_in == "callback":
        patched.add_callback(CallbacksMP.ON_PRE_RUN, move)
    return patched


@pytest.mark.parametrize("moves_in", ["callback", "use"])
@pytest.mark.parametrize("alignment", ["staged", "imagery"])
def test_weights_that_a_patch_moves_in_a_training_stay_of_use(
    acfun, comfy, model, moves_in, alignment
):
    clip = comfy.checkpoint("sd1")[1]
    prompts = encode(clip, "a woman"), encode(clip, "")
    fresh, patched = (with_moving_weights(model, moves_in) for _ in range(2))
    options = {"alignment": alignment, "steps": 1}
    # imagery draws before it trains, so the patch moves without autograd.
    losses = acfun.train(model=patched, **options)[1]
    assert losses != pytest.approx(acfun.losses(**options), rel=1e-3)
    assert torch.equal(sample(patched, *prompts)[-1], sample(fresh, *prompts)[-1])


@pytest.mark.parametrize("depth", [1, 2])
def test_core_train_lora_gives_the_same_with_checkpointing(acfun, comfy, model, depth):
    positive = encode(comfy.checkpoint("sd1")[1], "a woman")
    latents = {"samples": torch.zeros(1, 4, 8, 8)}

    def losses(checkpointing):
        styled = acfun.adapt(model, acfun.style())
        settings = LORA | {"gradient_checkpointing": checkpointing, "checkpoint_depth": depth}
        with torch.inference_mode():
            inputs = {name: [value] for name, value in settings.items()}
            output = TrainLoraNode.execute([styled], [latents], [positive], **inputs)
        return output.args[1]["loss"]

    assert losses(True) == pytest.approx(losses(False), rel=1e-4)
    assert leftovers(model.model) == []
