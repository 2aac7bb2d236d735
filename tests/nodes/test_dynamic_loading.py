"""Training on models that ComfyUI loads dynamically: on delegates, which hold other modules.

Dynamic loading needs a GPU; here a patcher only says that it is dynamic. Its delegate is ComfyUI's.
"""

from __future__ import annotations

import pytest
import torch
from comfy.model_patcher import ModelPatcher, ModelPatcherDynamic
from comfy_extras.nodes_lora_debug import LoraLoaderBypass
from stock_nodes import with_lora
from tiny_transformer_node import load_transformer


class Dynamic(ModelPatcher):
    """A patcher that is dynamic by name."""

    non_dynamic_delegate_model = None
    get_non_dynamic_delegate = ModelPatcherDynamic.get_non_dynamic_delegate

    def is_dynamic(self):
        return True


@pytest.fixture
def dynamic(comfy):
    model, clip, _ = comfy.checkpoint("sd1")
    model, clip = model.clone(), clip.clone()
    model.__class__ = clip.patcher.__class__ = Dynamic
    return model, clip


def test_a_delegate_trains_in_place_of_a_dynamic_model(acfun, comfy, dynamic, models_dir):
    styles = []
    for models in (dynamic, comfy.checkpoint("sd1")[:2]):
        model, _ = with_lora(*models, models_dir.name("lora"))
        styles.append(acfun.train(model=model, seed=76)[0])
    assert acfun.bytes_of(styles[0]) == acfun.bytes_of(styles[1])


@pytest.mark.parametrize("socket", ["model", "clip"])
def test_a_lora_on_modules_that_a_delegate_has_not_is_refused(acfun, dynamic, models_dir, socket):
    with torch.inference_mode():
        loaded = LoraLoaderBypass().load_lora(*dynamic, models_dir.name("lora"), 1.0, 1.0)
    inputs = {socket: loaded[("model", "clip").index(socket)]}
    with pytest.raises(acfun.error, match="changes modules of this loaded model"):
        acfun.train(**inputs, seed=77)


def test_a_text_encoder_that_no_gradient_goes_through_is_not_copied(acfun):
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    model, clip, *images = load_transformer("zimage")
    clip.patcher.__class__ = Dynamic
    with training_backbone(model, clip, *images, dtype=None) as backbone:
        backbone.word_vectors("style")
        assert backbone.encode_prompt("in S* style", "S*", {}).tokens.isfinite().all()
    assert clip.patcher.non_dynamic_delegate_model is None


def test_a_replaced_unet_that_a_delegate_has_not_is_refused(acfun, dynamic):
    model, _ = dynamic
    model.add_object_patch("diffusion_model", model.get_model_object("diffusion_model"))
    with pytest.raises(acfun.error, match="changes modules of this loaded model"):
        acfun.train(model=model, seed=77)
