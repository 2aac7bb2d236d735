"""A style trained without ComfyUI applies in it, and the other way round, on the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from headless_pipeline import KEY, ldm_names, sd1_unet, write_both
from models_dir import TINY_MODELS, TinyModel
from pack_nodes import picture
from stock_nodes import encode, equal_conditioning

from acfun_ops.backbones.diffusers_backbone import load_pipeline
from acfun_ops.backbones.diffusers_unet import insert_points
from acfun_ops.method.alignment_loss import SETTINGS, Redrawing
from acfun_ops.method.injection import attach_adapters
from acfun_ops.sampling.generate import Drawing, draw_picture
from acfun_ops.sampling.style_injection import Restyler
from acfun_ops.style.style_file import load_style, save_style
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.events import TrainImages
from acfun_ops.training.fit import fit
from acfun_ops.training.training_images import prepare_images

PROMPT = "A painting of a woman in S* style, by the sea"
SIGMA = 2.0
OPTIONS = {"resolution": 64, "rank": 8, "preview_every": 0, "alignment": "staged"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, models_dir):
    """The diffusers folder; its checkpoint for ComfyUI goes by the name KEY."""
    pipeline = tmp_path_factory.mktemp("headless") / "pipeline"
    path = write_both(pipeline, models_dir)
    # Written already, so nothing is left to write.
    TINY_MODELS[KEY] = TinyModel("checkpoints", path.name, lambda path: None)
    return pipeline


@pytest.fixture(scope="module")
def backbone(folder):
    return load_pipeline(folder)


@pytest.fixture(scope="module")
def loaded(folder, comfy):
    """ComfyUI's MODEL, CLIP and VAE of the same weights."""
    return comfy.checkpoint(KEY)


@pytest.fixture(scope="module")
def headless_style(backbone):
    """A style of the diffusers backbone, trained hard."""
    pictures = TrainImages(style=picture(1), face=picture(2))
    config = TrainConfig(**OPTIONS | {"steps": 6, "learning_rate": 0.05, "alignment": "drawn"})
    method = replace(SETTINGS, redrawing=replace(SETTINGS.redrawing, steps=2))
    return fit(backbone, prepare_images(backbone, pictures, config, method), config).style


@pytest.fixture(scope="module")
def comfy_style(acfun, loaded):
    return acfun.train(KEY, steps=3)[0]


def carried(style, acfun, tmp_path, to_comfy):
    """Return a style through its file, as the other side's class."""
    path = tmp_path / "style.safetensors"
    if to_comfy:
        save_style(style, path)
        return acfun.style_file.load_style(path)
    acfun.style_file.save_style(style, path)
    return load_style(path)


def noisy():
    drawn = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return drawn * (1 + SIGMA**2) ** 0.5


def in_comfyui(acfun, loaded, style, strength=1.0, **strengths):
    """Denoise once, through what the two Apply nodes return and KSampler's own way to a U-Net."""
    import comfy.samplers

    model, clip, _ = loaded
    styled = acfun.adapt(model, style, strength=strength, **strengths)
    conditioning = acfun.embed(style, clip, PROMPT, strength)
    seen = []

    def sampler(denoiser, noise, sigmas, extra_args, **rest):
        seen.append(denoiser(noisy(), torch.tensor([SIGMA]), **extra_args))
        return seen[0]

    with torch.inference_mode():
        guider = comfy.samplers.CFGGuider(styled)
        guider.set_conds(conditioning, encode(clip, ""))
        guider.set_cfg(1.0)
        step = comfy.samplers.KSAMPLER(sampler)
        latent = torch.zeros(1, 4, 8, 8)
        guider.sample(latent, latent, step, torch.tensor([SIGMA, 0.0]), disable_pbar=True)
    return seen[0].float()


@torch.no_grad()
def headless(backbone, style, strength=1.0, fused=True):
    """Denoise once with the style's inserts, and with its fused prompt or the plain one."""
    context = backbone.encode_prompt(PROMPT, "S*", style.vectors)
    fusion = style.abstract_fusion()
    tokens = fusion(context.tokens, style.style_tokens, strength if fused else 0.0)
    modules = {n: p.module for n, p in backbone.insert_points("resblock").items()}
    inserts = style.inserts() if strength else {}
    with attach_adapters(inserts, modules):
        return backbone.denoise(noisy(), torch.tensor(SIGMA), type(context)(tokens))


def assert_equal_outputs(acfun, loaded, backbone, ours, theirs):
    """Compare on both sides: the style, its twin at strength 0, and each part of it missing."""
    one, other = headless(backbone, ours), in_comfyui(acfun, loaded, theirs)
    assert torch.allclose(one, other, atol=1e-4)
    off = headless(backbone, ours, strength=0.0)
    assert torch.allclose(off, in_comfyui(acfun, loaded, theirs, strength=0.0), atol=1e-4)
    assert (one - off).abs().max() > 0.05
    inserts_only = headless(backbone, ours, fused=False)
    assert (one - inserts_only).abs().max() > 1e-3
    less = in_comfyui(acfun, loaded, theirs, encoder_strength=0.0)
    assert (one - less).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("where", "ends"),
    [("resblock", {"conv2": "out_layers.3"}), ("attention", {"proj_out": "proj_out"})],
)
def test_every_block_has_the_name_that_comfyuis_own_table_gives_it(where, ends):
    unet, names = sd1_unet(), ldm_names()
    modules = {module: name for name, module in unet.named_modules()}
    points = insert_points(unet, where)
    for block, point in points.items():
        name = modules[point.module]
        end = ends[name.rpartition(".")[2]]
        assert names[f"{name}.weight"] == f"{block}.{end}.weight"
    resnets = [name for name in modules.values() if name.endswith(("conv2", "proj_out"))]
    assert len(points) == sum(name.endswith(tuple(ends)) for name in resnets)


def test_both_sides_have_the_same_blocks_and_widths(acfun, backbone, loaded):
    from acfun_pack.nodes.comfyui.unet import insert_points as comfy_points

    for where in ("resblock", "attention"):
        ours = {n: p.channels for n, p in backbone.insert_points(where).items()}
        theirs = {
            n: p.channels for n, p in comfy_points(loaded[0].model.diffusion_model, where).items()
        }
        assert ours == theirs


def test_both_sides_have_the_same_noise_schedule(acfun, backbone, loaded):
    sigmas = loaded[0].get_model_object("model_sampling").sigmas
    assert torch.allclose(backbone.sigmas, sigmas.cpu(), rtol=1e-4)


def test_a_face_is_redrawn_alike_on_both_sides(acfun, backbone, loaded, comfy):
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    style, face = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(4))

    def redraw(on, temperature):
        plain, prompt = (on.encode_prompt(text, "S*", {}) for text in ("", "a woman " * 60))
        how = Redrawing(steps=3, temperature=temperature)
        restyler = Restyler(on, plain, prompt, how)
        return restyler.restyle(restyler.invert(style), restyler.invert(face))

    ours, other = redraw(backbone, 2.5), redraw(backbone, 0.0)
    with training_backbone(*loaded, comfy.clip_vision(), None) as theirs:
        assert len(theirs.self_attentions()) == len(backbone.self_attentions()) > 1
        assert torch.allclose(redraw(theirs, 2.5), ours, atol=1e-3)
    assert (ours - other).abs().max() > 1e-2
    assert not any(module._forward_hooks for module in theirs.network.module.modules())


@pytest.mark.parametrize("prompt", ["a woman", "", "a woman " * 60], ids=["short", "none", "long"])
def test_a_prompt_is_encoded_as_clip_text_encode_does(backbone, loaded, prompt):
    theirs = encode(loaded[1], prompt)[0][0].float()
    ours = backbone.encode_prompt(prompt, "S*", {}).tokens
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(
        backbone.encode_prompt("b", "S*", {}).tokens, theirs[:, :77], atol=0.1
    )


def test_a_style_picture_is_seen_as_clip_vision_encode_sees_it(backbone, comfy, folder):
    square = picture(4, 96, 96)
    with torch.inference_mode():
        output = comfy.clip_vision().encode_image(square)
    theirs = output["penultimate_hidden_states"].float()
    ours = backbone.style_tokens(square)
    assert ours.shape == theirs.shape
    error = (ours - theirs).norm() / theirs.norm()
    other = (backbone.style_tokens(1 - square) - theirs).norm() / theirs.norm()
    assert error < 1e-4 < other


def test_a_headless_style_applies_in_comfyui(acfun, backbone, loaded, headless_style, tmp_path):
    theirs = carried(headless_style, acfun, tmp_path, to_comfy=True)
    assert_equal_outputs(acfun, loaded, backbone, headless_style, theirs)


def test_a_comfyui_style_applies_headless(acfun, backbone, loaded, comfy_style, tmp_path):
    ours = carried(comfy_style, acfun, tmp_path, to_comfy=False)
    assert_equal_outputs(acfun, loaded, backbone, ours, comfy_style)
    drawing = Drawing(prompt=PROMPT, steps=2, size=64)
    styled, plain = (draw_picture(backbone, drawing, style) for style in (ours, None))
    assert (styled - plain).abs().max() > 0.01


def test_headless_training_goes_on_from_a_comfyui_style(acfun, backbone, comfy_style, tmp_path):
    ours = carried(comfy_style, acfun, tmp_path, to_comfy=False)
    pictures = TrainImages(style=picture(1), face=picture(2))
    options = OPTIONS | {"steps": 1}
    resumed = fit(backbone, pictures, TrainConfig(**options), resume=(ours, None)).style
    block = "input_blocks.1.0"
    moved = resumed.concrete[block]["scale.weight"] - ours.concrete[block]["scale.weight"]
    assert 0 < moved.abs().max() < 1e-3


def test_untouched_prompts_stay_comfyuis_own(acfun, loaded, headless_style, tmp_path):
    theirs = carried(headless_style, acfun, tmp_path, to_comfy=True)
    plain = acfun.embed(theirs, loaded[1], "a woman", 0.0)
    assert equal_conditioning(plain, encode(loaded[1], "a woman"))
