"""Styles under AnimateDiff-Evolved's sliding windows, which hand the U-Net some of the frames.

Without a motion model each frame is a picture of its own, so that a window must change nothing.
"""

from __future__ import annotations

import pytest
import torch
from other_packs import load_pack
from stock_nodes import encode, sample

FRAMES, WINDOW = 20, 8


@pytest.fixture(scope="module")
def evolve(comfy):
    """Return a function that puts AnimateDiff's sampling on a MODEL, with or without windows."""
    pack = load_pack("ComfyUI-AnimateDiff-Evolved").NODE_CLASS_MAPPINGS
    windows = {"context_length": WINDOW, "context_stride": 1, "context_overlap": 3}

    def evolved(model, noise="default", kind="StandardUniform", **options):
        (settings,) = pack["ADE_AnimateDiffSamplingSettings"]().create_settings(
            0, noise, "comfy", 0
        )
        if kind:
            make = pack[f"ADE_{kind}ContextOptions"]()
            (options["context_options"],) = make.create_options(**windows)
        with torch.inference_mode():
            return pack["ADE_UseEvolvedSampling"]().use_evolved_sampling(
                model, "use existing", sample_settings=settings[0], **options
            )[0]

    return evolved


@pytest.fixture(scope="module")
def loaded(comfy):
    return comfy.checkpoint("sd1")[:2]


@pytest.fixture(scope="module")
def draw(loaded):
    prompts = encode(loaded[1], "a woman"), encode(loaded[1], "a house by the sea")
    return lambda model, positive=None, batch=FRAMES: sample(
        model, positive or prompts[0], prompts[1], steps=2, batch=batch
    )[-1]


@pytest.fixture(scope="module")
def masks():
    """Return a mask for each frame: ever more of it is white."""
    wide = torch.arange(FRAMES).view(-1, 1, 1) / FRAMES
    return (torch.linspace(0, 1, 64).expand(FRAMES, 64, 64) <= wide).float()


def inputs(case, masks):
    return {
        "plain": {},
        "positive": {"applies_to": "positive only"},
        "masks": {"mask": masks},
        "both": {"mask": masks, "applies_to": "negative only"},
    }[case]


@pytest.mark.parametrize("case", ["plain", "positive", "masks", "both"])
@pytest.mark.parametrize("order", ["style first", "style last"])
def test_each_frame_is_styled_as_in_one_batch(acfun, loaded, draw, evolve, masks, case, order):
    model, style = loaded[0], acfun.style()

    def styled(evolved):
        if order == "style first":
            return evolved(acfun.adapt(model, style, **inputs(case, masks)))
        return acfun.adapt(evolved(model), style, **inputs(case, masks))

    acfun.texts.clear()
    whole = draw(acfun.adapt(model, style, **inputs(case, masks)))
    windows = draw(styled(evolve))
    assert torch.allclose(windows, whole, atol=1e-2)
    assert not torch.allclose(windows, draw(evolve(model)), atol=0.1)
    assert acfun.texts == []


@pytest.mark.parametrize("noise", ["constant", "FreeNoise", "repeated_context"])
@pytest.mark.parametrize("order", ["style first", "style last"])
def test_frames_of_equal_noise_keep_their_masks(acfun, loaded, draw, evolve, masks, noise, order):
    model, style = loaded[0], acfun.style()

    def styled(kind):
        if order == "style first":
            return evolve(acfun.adapt(model, style, mask=masks), noise, kind)
        return acfun.adapt(evolve(model, noise, kind), style, mask=masks)

    acfun.texts.clear()
    assert torch.allclose(draw(styled("StandardUniform")), draw(styled(None)), atol=1e-2)
    assert acfun.texts == []
