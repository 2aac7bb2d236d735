"""A model that may be distilled for few steps is named before it is trained on."""

from __future__ import annotations

import pytest
from tiny_transformers import build_model


@pytest.fixture(scope="module")
def notices(acfun):
    from acfun_pack.nodes.comfyui.distilled import base_model_notices
    from acfun_pack.nodes.comfyui.families import network_of

    return lambda model: base_model_notices(network_of(model), model.model.model_config)


@pytest.mark.parametrize(
    ("family", "settings", "name"),
    [
        ("flux", {"guidance_embed": False}, "Flux.1 schnell"),
        ("flux2", {"guidance_embed": False}, "Flux.2 klein (4 steps)"),
        ("zimage", {}, "Z-Image-Turbo"),
    ],
)
def test_what_may_be_distilled_says_to_train_on_the_base_model(notices, family, settings, name):
    (text,) = notices(build_model(family, **settings))
    assert text.startswith(f"If this model is {name}, train on its base model")
    assert text.endswith("The style can be applied to either.")


@pytest.mark.parametrize("family", ["flux", "flux2"])
def test_guidance_tells_the_models_that_are_not(notices, family):
    assert notices(build_model(family, guidance_embed=True)) == []


@pytest.mark.parametrize("family", ["chroma", "lumina2"])
def test_other_families_say_nothing(notices, family):
    assert notices(build_model(family)) == []


def test_a_unet_says_nothing(notices, model):
    assert notices(model) == []
