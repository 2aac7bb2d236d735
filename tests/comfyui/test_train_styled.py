"""Training through a MODEL that carries a style, with blocks recomputed in the backward pass."""

from __future__ import annotations

import pytest
import torch
from comfy_extras.nodes_train import TrainLoraNode
from stock_nodes import encode, leftovers, sample

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


@pytest.fixture(scope="module")
def model(comfy):
    return comfy.checkpoint("sd1")[0]


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
    plain = acfun.train(gradient_checkpointing="on")[1]
    assert on == pytest.approx(off, rel=1e-4)
    assert on != pytest.approx(plain, rel=1e-3)
    assert leftovers(model.model) == []
    assert torch.equal(sample(model, *prompts)[-1], before)


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
