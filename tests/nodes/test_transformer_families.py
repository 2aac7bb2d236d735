"""Every family of transformers is told by ComfyUI's kind of MODEL, and its relatives are not."""

from __future__ import annotations

import pytest
import tiny_transformers
from tiny_transformers import FAMILIES, TEXT_WIDTH, build_model
from torch import nn


@pytest.fixture(scope="module")
def families(acfun):
    from acfun_pack.nodes.comfyui import families

    return families


def find(families, model):
    return families.find_network(model.model.diffusion_model, model.model.model_config)


def test_the_newest_comfyui_has_all_families(families):
    assert set(FAMILIES) == set(families.LAYOUTS) == set(tiny_transformers.CONFIGS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_told_with_its_blocks(families, family):
    network = find(families, build_model(family))
    assert (network.family, network.context_width) == (family, TEXT_WIDTH)
    for stack in network.layout.stacks:
        blocks = getattr(network.module, stack.blocks)
        assert len(blocks) >= 2
        assert all(isinstance(block.get_submodule(stack.branch), nn.Module) for block in blocks)


def test_a_model_of_a_known_class_but_an_unknown_kind_is_none(families):
    model = build_model("flux")
    model.model.model_config = object()  # As LongCat's.
    assert find(families, model) is None


def test_a_class_derived_from_a_known_one_is_none(families):
    model = build_model("chroma")
    network = model.model.diffusion_model
    network.__class__ = type("ChromaRadiance", (type(network),), {})
    assert find(families, model) is None


def test_a_unet_is_told_by_its_prompts_width(families, model):
    network = find(families, model)
    assert (network.family, network.context_width, network.layout) == ("sd1", 768, None)
