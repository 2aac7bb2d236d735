"""Styles beside other packs, where ComfyUI's custom_nodes holds them."""

from __future__ import annotations

import pytest
import torch
from other_packs import load_pack
from pack_nodes import picture
from stock_nodes import encode, sample

WIDTH, CONTEXT, TOKENS = 320, 768, 4


@pytest.fixture(scope="module")
def ip_adapt(comfy):
    """Return a function that puts an image prompt on a MODEL with IPAdapter plus."""
    pack = load_pack("ComfyUI_IPAdapter_plus")
    node = pack.NODE_CLASS_MAPPINGS["IPAdapterAdvanced"]()
    vision = comfy.clip_vision()
    with torch.inference_mode():
        adapter = ip_adapter(vision.encode_image(picture(3)).image_embeds.shape[-1])

    def apply(model):
        with torch.inference_mode():
            return node.apply_ipadapter(
                model, adapter, image=picture(3), clip_vision=vision, weight=1.0,
                weight_type="linear", start_at=0.0, end_at=1.0,
            )[0]  # fmt: skip

    return apply


def ip_adapter(image_width: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return an IPAdapter of the SD1.x layout with random weights."""
    generator = torch.Generator().manual_seed(0)

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    keys = [f"{2 * i + 1}.to_{part}_ip.weight" for i in range(16) for part in "kv"]
    return {
        "image_proj": {
            "proj.weight": weight(TOKENS * CONTEXT, image_width),
            "proj.bias": torch.zeros(TOKENS * CONTEXT),
            "norm.weight": torch.ones(CONTEXT),
            "norm.bias": torch.zeros(CONTEXT),
        },
        "ip_adapter": {key: weight(WIDTH, CONTEXT) for key in keys},
    }


def test_ipadapter_plus_and_adapters_act_together_in_either_order(acfun, comfy, ip_adapt):
    model, clip, _ = comfy.checkpoint("sd1")
    prompts = encode(clip, "a woman"), encode(clip, "")
    style = acfun.style()
    drawn = {
        "plain": model,
        "style": acfun.adapt(model, style),
        "image": ip_adapt(model),
        "style, image": ip_adapt(acfun.adapt(model, style)),
        "image, style": acfun.adapt(ip_adapt(model), style),
    }
    latents = {name: torch.stack(sample(one, *prompts)) for name, one in drawn.items()}
    assert torch.equal(latents["style, image"], latents["image, style"])
    both = latents.pop("style, image")
    del latents["image, style"]
    assert all(not torch.allclose(both, other, atol=1e-2) for other in latents.values())
    assert torch.equal(torch.stack(sample(model, *prompts)), latents["plain"])


def test_a_style_trains_through_ipadapter_plus(acfun, comfy, ip_adapt):
    inputs = acfun.train_inputs()
    style, _, _ = acfun.train(model=ip_adapt(inputs["model"]))
    plain, _, _ = acfun.train()
    assert style.facts.steps == plain.facts.steps == 2
    assert any(
        not torch.equal(style.concrete[block][name], tensor)
        for block, state in plain.concrete.items()
        for name, tensor in state.items()
    )
