"""Pictures drawn with a style on a Backbone: what acts, what fits, and what is left alone."""

from dataclasses import replace

import pytest
import torch
from tiny_backbone import TinyBackbone
from tiny_training import run, small_config

from acfun_ops.errors import ACFunError
from acfun_ops.method.injection import PartStrengths
from acfun_ops.sampling.generate import Drawing, draw_picture
from acfun_ops.sampling.sampler import Guidance, draw_latents, initial_noise, sampling_sigmas

DRAWING = Drawing(prompt="a face in S* style", steps=2, guidance=2.0)
OFF = PartStrengths(encoder=0, middle=0, decoder=0)


@pytest.fixture(scope="module")
def backbone():
    return TinyBackbone()


@pytest.fixture(scope="module")
def style():
    return run(small_config()).style


def test_without_a_style_it_is_the_plain_models_picture(backbone):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    styled, plain = (backbone.encode_prompt(text, "S*", {}) for text in (DRAWING.prompt, "a house"))
    sigmas = sampling_sigmas(backbone.sigmas, 2)
    guidance = Guidance(styled, plain, 2.0)
    latent = draw_latents(backbone, initial_noise(sigmas[0], noise), sigmas, guidance)
    drawn = draw_picture(backbone, replace(DRAWING, seed=3, negative="a house"))
    assert torch.equal(drawn, backbone.decode_latents(latent))
    assert drawn.shape == (1, 64, 64, 3)


def test_each_part_of_a_style_acts_and_the_model_is_left_as_it_was(backbone, style):
    def drawn(strength, strengths):
        drawing = replace(DRAWING, strength=strength, strengths=strengths)
        return draw_picture(backbone, drawing, style)

    plain = draw_picture(backbone, DRAWING)
    pictures = [
        plain,
        drawn(0.0, OFF),  # The learnt word alone.
        drawn(1.0, OFF),
        drawn(0.0, replace(OFF, encoder=1)),
        drawn(0.0, replace(OFF, middle=1)),
        drawn(0.0, replace(OFF, decoder=1)),
        drawn(1.0, PartStrengths()),
    ]
    for number, picture in enumerate(pictures):
        for other in pictures[:number]:
            assert (picture - other).abs().max() > 1e-4
    assert torch.equal(draw_picture(backbone, DRAWING), plain)


def test_a_step_is_told_once(backbone, style):
    steps = []
    draw_picture(backbone, replace(DRAWING, steps=5), style, lambda: steps.append(1))
    assert len(steps) == 5


def test_a_style_that_does_not_fit_is_refused(backbone, style):
    two = TinyBackbone(encoders=("l", "g"))
    sdxl = replace(style, facts=replace(style.facts, family="sdxl"))
    fewer = replace(style, concrete=dict(list(style.concrete.items())[:-1]))
    for other, model, reason in (
        (sdxl, backbone, "SDXL; this model is SD1"),
        (fewer, backbone, "its 2 and the 3 of"),
        (style, two, "are 16 wide; this model takes 32"),
    ):
        with pytest.raises(ACFunError, match=reason):
            draw_picture(model, DRAWING, other)


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"guidance": -1}, {"seed": 2**64}, {"size": 12}, {"size": -8}]
)
def test_a_drawing_that_cannot_be_is_refused(change):
    with pytest.raises(ACFunError, match="expected"):
        replace(DRAWING, **change)
