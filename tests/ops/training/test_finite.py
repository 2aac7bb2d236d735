"""What a model makes of the pictures and the prompt is looked at where it is made."""

import math

import pytest
import torch
from tiny_backbone import TinyBackbone
from tiny_training import run, small_config

from acfun_ops.backbones.backbone import Context
from acfun_ops.errors import ACFunError


def spoil(backbone, method, change):
    made = getattr(backbone, method)
    setattr(backbone, method, lambda *args: change(made(*args)))
    return backbone


def with_one(tensor, value):
    tensor = tensor.clone()
    tensor.view(-1)[-1] = value
    return tensor


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("method", "part"),
    [("encode_pictures", "The VAE"), ("style_tokens", "CLIP vision")],
)
def test_pictures_that_a_model_cannot_encode_name_the_model(method, part, value):
    backbone = spoil(TinyBackbone(), method, lambda tensor: with_one(tensor, value))
    with pytest.raises(ACFunError, match=f"^{part} gives values that are not finite"):
        run(small_config(), backbone)


def test_a_prompt_that_overflows_names_the_text_encoder():
    def change(context):
        return Context(with_one(context.tokens, math.inf), context.pooled)

    backbone = spoil(TinyBackbone(), "encode_prompt", change)
    with pytest.raises(ACFunError, match=r"^The text encoder gives values that are not finite"):
        run(small_config(), backbone)


def test_a_redrawing_that_overflows_says_so_before_the_first_step():
    backbone, seen = TinyBackbone(), []
    denoise = backbone.denoise

    def spoiled(noisy, sigma, context):
        denoised = denoise(noisy, sigma, context)
        seen.append(torch.is_grad_enabled())
        return denoised if torch.is_grad_enabled() else denoised * math.nan

    backbone.denoise = spoiled
    with pytest.raises(ACFunError, match=r"^Redrawing the face in the style gave values"):
        run(small_config(alignment="drawn"), backbone)
    assert True not in seen
