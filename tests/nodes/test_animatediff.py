"""Styles under AnimateDiff-Evolved's sliding windows, which hand the U-Net some of the frames.

Without a motion model each frame is a picture of its own, so that a window must change nothing.
"""

from __future__ import annotations

import comfy.sample
import pytest
import torch
from other_packs import load_pack
from stock_nodes import encode

FRAMES, WINDOW = 8, 4
LOOKED_AT = (1, 6)


@pytest.fixture(scope="module")
def evolve(comfy):
    """Return a function that puts AnimateDiff's sampling with sliding windows on a MODEL."""
    pack = load_pack("ComfyUI-AnimateDiff-Evolved").NODE_CLASS_MAPPINGS
    make = pack["ADE_StandardUniformContextOptions"]()
    (windows,) = make.create_options(context_length=WINDOW, context_stride=1, context_overlap=1)

    def evolved(model):
        with torch.inference_mode():
            return pack["ADE_UseEvolvedSampling"]().use_evolved_sampling(
                model, "use existing", context_options=windows
            )[0]

    return evolved


@pytest.fixture(scope="module")
def loaded(comfy):
    return comfy.checkpoint("sd1")[:2]


@pytest.fixture(scope="module")
def draw(loaded):
    """Return a function that samples frames, of noise that may be the same in all of them."""
    positive, negative = encode(loaded[1], "a woman"), encode(loaded[1], "a house by the sea")

    @torch.inference_mode()
    def run(model, frames=slice(None), equal=False):
        latent = torch.zeros(FRAMES, 4, 8, 8)
        noise = comfy.sample.prepare_noise(latent, 5)
        noise = noise[:1].expand_as(noise).contiguous() if equal else noise
        return comfy.sample.sample(
            model, noise[frames], 2, 7.0, "euler", "normal", positive, negative, latent[frames],
            disable_pbar=True, seed=5,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("equal", [False, True], ids=["own noise", "equal noise"])
@pytest.mark.parametrize("order", ["style first", "style last"])
def test_each_frame_is_styled_as_if_it_were_alone(acfun, loaded, draw, evolve, order, equal):
    """Each frame has its own mask; only the positive prompt is styled."""
    model, style = loaded[0], acfun.style()
    wide = torch.arange(1, FRAMES + 1).view(-1, 1, 1) / FRAMES
    masks = (torch.linspace(0, 1, 64).expand(FRAMES, 64, 64) <= wide).float()

    def styled(base, masks):
        return acfun.adapt(base, style, mask=masks, applies_to="positive only")

    acfun.texts.clear()
    if order == "style first":
        animated = evolve(styled(model, masks))
    else:
        animated = styled(evolve(model), masks)
    frames = draw(animated, equal=equal)
    for number in LOOKED_AT:
        one = slice(number, number + 1)
        alone = draw(styled(model, masks[one]), one, equal)
        assert torch.allclose(frames[one], alone, atol=1e-2)
        assert not torch.allclose(frames[one], draw(model, one, equal), atol=0.1)
    assert acfun.texts == []
