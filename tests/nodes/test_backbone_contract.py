"""ComfyUI's side keeps the contract of a Backbone."""

from __future__ import annotations

import pytest
from backbone_contract import *  # noqa: F403


@pytest.fixture(scope="module")
def backbone(acfun, comfy):
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    with training_backbone(*comfy.checkpoint("sd1"), comfy.clip_vision(), None) as borrowed:
        yield borrowed


@pytest.fixture(scope="module")
def network(backbone):
    return backbone.network.module
