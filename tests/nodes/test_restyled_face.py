"""The restyled face of ``drawn`` behind nodes that patch MODEL: their patches stay out of it."""

from __future__ import annotations

import pytest
import torch
from comfy.model_management import load_models_gpu
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_hypertile import HyperTile
from comfy_graphs import node
from pack_nodes import picture, short_redrawing
from safetensors.torch import load_file
from stock_nodes import with_lora
from style_graphs import kept_training, training_graph
from torch import nn

MANY_STEPS = 100_000


@torch.inference_mode()
def tiled(model):
    return HyperTile.execute(model, 32, 2, 0, False)[0]


def split(model):
    """Return a MODEL whose samples run one at a time."""

    def run_one_by_one(apply_model, call):
        rows = zip(*(call[name].split(1) for name in ("input", "timestep")), strict=True)
        tokens = call["c"]["c_crossattn"].split(1)
        return torch.cat(
            [
                apply_model(*row, **call["c"] | {"c_crossattn": one})
                for row, one in zip(rows, tokens, strict=True)
            ]
        )

    changed = model.clone()
    changed.set_model_unet_function_wrapper(run_one_by_one)
    return changed


def patched_otherwise(model):
    changed = model.clone()
    options = changed.model_options["transformer_options"]
    options["optimized_attention_override"] = lambda function, q, *args, **kwargs: 0.5 * q
    for kind in ("attn1", "attn2"):
        changed.set_model_patch_replace(lambda q, k, v, options: 0.5 * q, kind, "output", 2, 0)
    changed.set_model_output_block_patch(lambda h, skip, options: (0.9 * h, skip))
    for kind in (WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL):
        changed.add_wrapper(kind, lambda execute, *args, **kwargs: 0.9 * execute(*args, **kwargs))
    return changed


@pytest.fixture(scope="module")
def restyle(acfun, comfy):
    """Return a function that trains a step; it gives the face, if it is restyled, and notices."""
    from acfun_pack.acfun_ops.training.config import TrainConfig
    from acfun_pack.acfun_ops.training.events import TrainImages, WarningEvent
    from acfun_pack.acfun_ops.training.fit import fit
    from acfun_pack.acfun_ops.training.training_images import prepare_images
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    config = TrainConfig(steps=1, resolution=64, preview_every=0, alignment="drawn")

    def restyle(model, checkpoint="sd1", style=1):
        notices = []
        _, clip, vae = comfy.checkpoint(checkpoint)

        def note(event):
            if isinstance(event, WarningEvent):
                notices.append(str(event.text))
            return False

        with training_backbone(model, clip, vae, comfy.clip_vision(), None) as backbone:
            pictures = TrainImages(style=picture(style), face=picture(2))
            pair = prepare_images(backbone, pictures, config, short_redrawing())
            result = fit(backbone, pair, config, note)
        return result.state.kept.get("redrawn"), notices

    return restyle


@pytest.fixture(scope="module")
def plain(restyle, model):
    face, notices = restyle(model)
    assert notices == []
    return face


@pytest.mark.parametrize("patch", [tiled, split, patched_otherwise])
def test_other_nodes_patches_stay_out_of_the_restyled_face(model, restyle, plain, patch):
    face, notices = restyle(patch(model))
    assert torch.equal(face, plain)
    assert notices == []


def test_another_style_changes_the_restyled_face(restyle, model, plain):
    face, _ = restyle(model, style=3)
    assert not torch.allclose(face, plain, atol=1e-3)


def test_a_lora_on_the_model_changes_the_restyled_face(comfy, models_dir, model, restyle, plain):
    patched, _ = with_lora(model, comfy.checkpoint("sd1")[1], models_dir.name("lora"))
    face, _ = restyle(patched)
    assert not torch.allclose(face, plain, atol=1e-3)
    assert torch.equal(restyle(tiled(patched))[0], face)


@pytest.mark.parametrize("checkpoint", ["sd2_v", "sdxl"])
def test_a_face_is_restyled_by_other_families(comfy, restyle, checkpoint):
    face, notices = restyle(comfy.checkpoint(checkpoint)[0], checkpoint)
    assert torch.isfinite(face).all() and face.std() > 0
    assert notices == []


class Tiled(nn.Module):
    """An attention within each quarter of the tokens."""

    def __init__(self, own):
        super().__init__()
        self.own, self.to_q, self.to_k, self.to_v = own, own.to_q, own.to_k, own.to_v

    def forward(self, x, **kwargs):
        return self.own(x.reshape(4 * len(x), -1, x.shape[-1])).reshape(x.shape)


class Uncalled(Tiled):
    def forward(self, x, **kwargs):
        return self.own.to_out(x)


class Other(nn.Module):
    def __init__(self, own):
        super().__init__()

    def forward(self, x, **kwargs):
        return x


@pytest.fixture
def replace_attention(model):
    """Return a function that gives a MODEL with another kind of self-attention in its decoder."""
    name = "diffusion_model.output_blocks.2.1.transformer_blocks.0.attn1"
    own = model.get_model_object(name)

    def replace(kind):
        changed = model.clone()
        changed.add_object_patch(name, kind(own))
        return changed

    yield replace
    with torch.inference_mode():
        load_models_gpu([model])  # Then ComfyUI puts the module back, whatever was loaded.
    assert model.model.get_submodule(name) is own


@pytest.mark.parametrize("kind", [Tiled, Uncalled, Other])
def test_where_it_cannot_be_done_right_the_training_is_staged_and_says_so(
    acfun, model, restyle, replace_attention, kind
):
    patched = replace_attention(kind)
    face, notices = restyle(patched)
    assert face is None
    assert [notice.split(". ")[-1] for notice in notices] == [
        "This training takes staged for alignment instead."
    ]
    modules = model.model.modules()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)
    acfun.texts.clear()
    _, losses, _ = acfun.train(model=patched, alignment="drawn", seed=75)
    assert notices[0] in acfun.texts
    assert losses == acfun.train(model=patched, alignment="staged", seed=75)[1]


def test_a_tiled_model_restyles_as_a_plain_one_in_both_versions(either_server, models_dir):
    def restyled(**patch):
        options = {"steps": MANY_STEPS, "alignment": "drawn", "seed": 76}
        graph = training_graph(either_server, models_dir, **options)
        if patch:
            graph["tiled"] = node("HyperTile", model=graph["train"]["inputs"]["model"], **patch)
            graph["train"]["inputs"]["model"] = ["tiled", 0]
        prompt_id = either_server.queue(graph)
        either_server.wait_for_message(prompt_id, "progress")
        either_server.interrupt()
        text = either_server.messages(either_server.wait(prompt_id)).texts("train")[-1]
        path = kept_training(either_server.styles_dir, text)
        return load_file(path.with_suffix(".resume"))["kept.redrawn"]

    face = restyled(tile_size=32, swap_size=2, max_depth=0, scale_depth=False)
    assert torch.equal(face, restyled())
