"""A style, clip, vae or model of another kind is named as users call it, with the remedy."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM
from pack_nodes import RAW_ERRORS
from stock_nodes import encode, sample


def without_middle(style):
    return {block: s for block, s in style.concrete.items() if block != "middle_block.0"}


def with_narrow_middle(style):
    state = {name: t[..., :100] for name, t in style.concrete["middle_block.0"].items()}
    state |= {name: t[:100] for name, t in state.items() if name.startswith(("scale", "shift"))}
    return dict(style.concrete) | {"middle_block.0": state}


@pytest.mark.parametrize("change", [without_middle, with_narrow_middle])
def test_a_style_of_other_blocks_or_widths_is_refused(acfun, comfy, change):
    other = replace(acfun.style(), concrete=change(acfun.style()))
    with pytest.raises(acfun.error, match=r"trained on SD1\.x with other blocks than"):
        acfun.adapt(comfy.checkpoint("sd1")[0], other)
    with pytest.raises(acfun.error, match=r"resume_from .* differ in name or width"):
        acfun.train(seed=50, resume_from=other)


@pytest.mark.parametrize(("of", "on"), [("sd1", "sdxl"), ("sdxl", "sd1"), ("sd2_v", "sd1")])
@pytest.mark.parametrize("text", ["in S* style", "a woman"])
def test_a_clip_of_another_family_is_refused(acfun, comfy, of, on, text):
    with pytest.raises(acfun.error, match=r"(with the CLIP of SD|another kind of CLIP)") as error:
        acfun.embed(acfun.style(of), comfy.checkpoint(on)[1], text)
    assert RAW_ERRORS.search(str(error.value)) is None
    assert "CLIP of the model family" in str(error.value)


def test_a_vae_of_another_family_is_named(acfun, comfy, monkeypatch):
    vae = comfy.checkpoint("sd1")[2]
    monkeypatch.setattr(vae, "encode", lambda pictures: torch.zeros(1, 16, 8, 8))
    with pytest.raises(
        acfun.error, match=r"vae is of another kind of model than SD1\.x .* Connect the VAE"
    ):
        acfun.train()


def test_an_inpainting_model_is_no_model_to_train(acfun, comfy, monkeypatch):
    unet = comfy.checkpoint("sd1")[0].model.diffusion_model
    monkeypatch.setattr(unet, "in_channels", 9)
    with pytest.raises(acfun.error, match=r"model also takes a picture, as models for inpainting"):
        acfun.train()


def test_an_edm_checkpoint_is_told_from_an_edm_patch(acfun, comfy):
    model = comfy.load_checkpoint("sd1")[0]
    patched = ModelSamplingContinuousEDM().patch(model, "edm", 120.0, 0.002)[0]
    with pytest.raises(acfun.error, match=r"as after a ModelSampling node .* without a sampling"):
        acfun.train(model=patched)
    # As Playground v2.5 comes.
    model.model.model_sampling = patched.get_model_object("model_sampling")
    with pytest.raises(acfun.error, match=r"This checkpoint .* of EDM kind.* Connect another SD1"):
        acfun.train(model=model)


def test_a_unet_without_a_middle_trains_and_applies(acfun, comfy):
    from acfun_pack.nodes.comfyui.unet import insert_points

    model, clip, _ = comfy.checkpoint("koala")
    assert model.model.diffusion_model.middle_block is None
    style = acfun.style("koala")
    for where in ("resblock", "attention"):
        points = insert_points(model.model.diffusion_model, where)
        assert {name.split(".")[0] for name in points} == {"input_blocks", "output_blocks"}
    again = acfun.train("koala", steps=3, seed=0, gradient_checkpointing="on")[0]
    for block, state in style.concrete.items():
        for name, tensor in state.items():
            assert torch.allclose(again.concrete[block][name], tensor, atol=1e-2), (block, name)
    positive, negative = acfun.embed(style, clip, "in S* style"), encode(clip, "")
    plain, styled = (
        sample(each, positive, negative, steps=1)[-1] for each in (model, acfun.adapt(model, style))
    )
    assert styled.isfinite().all() and not torch.allclose(styled, plain, atol=1e-2)


@pytest.mark.parametrize(
    ("module", "kind", "name"),
    [
        ("comfy.text_encoders.sd3_clip", "SD3Tokenizer", "SD3.5"),
        ("comfy.text_encoders.flux", "FluxTokenizer", "Flux.1"),
    ],
)
def test_a_clip_of_a_model_without_resblocks_is_named(
    acfun, comfy, monkeypatch, module, kind, name
):
    clip = comfy.checkpoint("sd1")[1].clone()
    clip.tokenizer = getattr(importlib.import_module(module), kind)()
    with pytest.raises(acfun.error, match=rf"clip is of {name} and does not fit .* is SD1\.x\. "):
        acfun.train(clip=clip)
    with pytest.raises(acfun.error, match=rf"CLIP of SD1\.x; the connected clip is of {name}\. "):
        acfun.embed(acfun.style(), clip, "S*")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Flux", r"Flux\.1"),
        ("FluxSchnell", r"Flux\.1"),
        ("SVD_img2vid", "Stable Video Diffusion"),
        ("StableAudio", "another kind of model"),
        (None, "another kind of model"),
    ],
)
def test_a_model_without_resblocks_is_named(acfun, kind, name):
    import comfy.supported_models

    config = getattr(comfy.supported_models, kind)({}) if kind else None
    model = SimpleNamespace(
        model=SimpleNamespace(model_config=config), get_model_object=lambda name: torch.nn.ReLU()
    )
    with pytest.raises(acfun.error, match=rf"the connected model is {name}\. Connect a checkpoint"):
        acfun.adapt(model, acfun.style())
    with pytest.raises(acfun.error, match=rf"the connected model is {name}\. Connect a checkpoint"):
        acfun.train(model=model)
