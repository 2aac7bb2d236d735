"""The diffusers side keeps the contract of a Backbone."""

import pytest
from backbone_contract import *  # noqa: F403

from acfun_ops.backbones.diffusers_backbone import load_pipeline


@pytest.fixture(scope="module")
def backbone(tiny_model):
    return load_pipeline(tiny_model)


@pytest.fixture(scope="module")
def network(backbone):
    return backbone.unet
