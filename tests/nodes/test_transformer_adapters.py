"""CFun on every transformer, drawn by KSampler's path: it acts, and leaves no trace."""

from __future__ import annotations

import pytest
import torch
from tiny_transformers import FAMILIES, build_model, has_frames, sample
from torch import nn
from transformer_styles import apply, style_for


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_act_in_each_half_and_leave_no_trace(acfun, family):
    model = build_model(family)
    plain, style = sample(model), style_for(model)
    styled = [
        sample(apply(model, style, **strengths))
        for strengths in ({}, {"encoder": 0.0}, {"decoder": 0.0}, {"middle": 0.0})
    ]
    assert all(latent.isfinite().all() for latent in styled)
    assert all((latent - plain).abs().mean() > 1e-3 for latent in styled)
    assert not torch.equal(styled[0], styled[1])
    assert not torch.equal(styled[1], styled[2])
    assert torch.equal(styled[0], styled[3])  # It has no middle.
    assert apply(model, style, encoder=0.0, decoder=0.0) is model
    assert apply(model, style, encoder=0.0, middle=0.0, decoder=0.0) is model
    assert torch.equal(sample(apply(model, style_for(model, scale=0.0))), plain)
    assert torch.equal(sample(model), plain)
    assert not any(module._forward_hooks for module in model.model.diffusion_model.modules())


@pytest.mark.parametrize(
    ("strengths", "is_said"),
    [
        ({}, False),
        ({"strength": 0.0}, False),
        ({"middle_strength": 0.5}, True),
        ({"encoder_strength": 0.0, "decoder_strength": 0.0}, True),
    ],
)
def test_a_style_without_a_middle_says_where_its_strength_does_nothing(acfun, strengths, is_said):
    model = build_model("zimage")
    acfun.texts.clear()
    acfun.adapt(model, style_for(model), **strengths)
    assert any("no adapters in the middle" in text for text in acfun.texts) is is_said


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_of_one_half_changes_another_image_than_that_of_the_other(acfun, family):
    model = build_model(family)
    plain, style, mask = sample(model, 1), style_for(model, 0.1), torch.zeros(1, 1, 64, 96)
    mask[..., :48] = 1
    changes = [
        (sample(apply(model, style, each), 1) - plain).abs().flatten(0, -2).mean(dim=0)
        for each in (mask, 1 - mask)
    ]
    whole = sample(apply(model, style, torch.ones_like(mask)), 1)
    assert torch.equal(whole, sample(apply(model, style), 1))
    # Attention carries a little over the edge.
    assert changes[0][:6].mean() > 2 * changes[0][6:].mean()
    assert changes[1][6:].mean() > 2 * changes[1][:6].mean()


@pytest.mark.parametrize(
    ("tokens", "before", "behind"),
    [("first", 0, 5), ("behind", 7, 5), ("last", 9, 8)],
)
def test_all_tokens_but_the_images_stay_bit_for_bit(acfun, tokens, before, behind):
    from acfun_pack.nodes.comfyui.families import find_network
    from acfun_pack.nodes.comfyui.sites import ImageTokens, TokenGrid

    model = build_model("zimage")  # Pads to 32 tokens.
    grid = TokenGrid(find_network(model.model.diffusion_model, model.model.model_config))
    grid.look_at(torch.zeros(1, 16, 8, 12))
    images, module = nn.Identity(), nn.Identity()
    output = torch.randn(2, before + 24 + behind, 3, generator=torch.Generator().manual_seed(0))
    seen = []

    def double(module, args, image):
        seen.append(image)
        return 2 * image

    handle = ImageTokens(module, tokens, grid, images).register_forward_hook(double)
    images(torch.zeros(2, 24 + behind, 3))
    result, image = module(output), slice(before, before + 24)
    assert torch.equal(seen[0].flatten(2).mT, output[:, image])
    assert seen[0].shape == (2, 3, 4, 6)
    assert torch.equal(result[:, image], 2 * output[:, image])
    assert torch.equal(result[:, :before], output[:, :before])
    assert torch.equal(result[:, before + 24 :], output[:, before + 24 :])
    handle.remove()
    assert not module._forward_hooks and not images._forward_hooks


def test_the_text_of_flux_is_told_apart_though_another_node_adds_to_it(acfun):
    model = build_model("flux")

    def add_words(args):
        words = args["txt"][:, :3]
        return args | {
            "txt": torch.cat([words, args["txt"]], dim=1),
            "txt_ids": torch.cat([args["txt_ids"][:, :3], args["txt_ids"]], dim=1),
        }

    model.set_model_patch(add_words, "post_input")
    plain, style = sample(model, 1), style_for(model, 0.1)
    only_singles = {block: s for block, s in style.concrete.items() if block[:6] == "single"}
    assert len(only_singles) == 4
    mask = torch.zeros(1, 1, 64, 96)
    mask[..., :48] = 1
    styled = sample(apply(model, style, mask, decoder=0.0), 1)
    change = (styled - plain).abs().flatten(0, -2).mean(dim=0)
    assert change[:6].mean() > 2 * change[6:].mean()


@pytest.mark.parametrize("family", [f for f in FAMILIES if has_frames(f)])
def test_a_video_is_refused(acfun, family):
    model = build_model(family)
    styled = apply(model, style_for(model))
    with pytest.raises(acfun.error, match=r"Styles act on images, and this sampling has 5 frames"):
        sample(styled, frames=5)


@pytest.mark.parametrize("family", ["zimage", "flux2"])
def test_a_style_of_another_family_is_refused(acfun, family):
    style = style_for(build_model("lumina2"))
    with pytest.raises(acfun.error, match=r"The style was trained on .* this model is"):
        apply(build_model(family), style)
