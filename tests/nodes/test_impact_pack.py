"""Styles in Impact Pack's detailers, which draw a part of a picture again at another size.

The detection models come in a pack of their own: a stand-in gives FaceDetailer the face's mask.
"""

from __future__ import annotations

import shutil
import sys

import pytest
import torch
from aiohttp import web
from other_packs import folder_of, load_pack
from pack_nodes import picture
from server import PromptServer
from stock_nodes import encode, fingerprint

import nodes

NAME = "ComfyUI-Impact-Pack"
NO_DETECTORS = "NODE_CLASS_MAPPINGS = {}\nNODE_DISPLAY_NAME_MAPPINGS = {}\n"
SIDE, STEPS, SEED = 96, 2, 3
FACE = slice(16, 80)
TEXT = "a woman in S* style"


@pytest.fixture(scope="module")
def impact(acfun, tmp_path_factory):
    """Return the pack's nodes, from a copy without detectors: it writes into its own folder."""
    folder = tmp_path_factory.mktemp("packs") / NAME
    shutil.copytree(folder_of(NAME), folder)
    subpack = folder / "impact_subpack" / "impact" / "subpack_nodes.py"
    if not subpack.is_file():
        subpack.parent.mkdir(parents=True)
        subpack.write_text(NO_DETECTORS)
    PromptServer.instance.routes = web.RouteTableDef()
    PromptServer.instance.add_on_prompt_handler = lambda handler: None
    return load_pack(NAME, folder).NODE_CLASS_MAPPINGS


@pytest.fixture(scope="module")
def loaded(comfy):
    return comfy.checkpoint("sd1")


@pytest.fixture(scope="module")
def face_mask():
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, FACE, FACE] = 1
    return mask


class Detector:
    """Finds what is white in a mask."""

    def __init__(self, segments):
        self.segments = segments

    def setAux(self, name):  # noqa: N802
        pass

    def detect(self, *args, **kwargs):
        return self.segments


@pytest.fixture(scope="module")
def detail(impact, loaded, face_mask):
    """Return a function that has FaceDetailer redraw a face; it gives picture and sampler calls."""
    (segments,) = impact["MaskToSEGS"].doit(face_mask, True, 1.0, False, 1)
    sampling = sys.modules["impact.impact_sampling"]
    _, clip, vae = loaded
    negative = encode(clip, "")

    def run(model, positive, image):
        calls, original = [], sampling.ksampler_wrapper

        def record(*args, **kwargs):
            latents = original(*args, **kwargs)
            calls.append((args[8], latents["samples"].clone()))
            return latents

        sampling.ksampler_wrapper = record
        try:
            with torch.inference_mode():
                drawn = impact["FaceDetailer"].enhance_face(
                    image, model, clip, vae, guide_size=64, guide_size_for_bbox=True, max_size=128,
                    seed=SEED, steps=STEPS, cfg=7.0, sampler_name="euler", scheduler="normal",
                    positive=positive, negative=negative, denoise=0.5, feather=0, noise_mask=True,
                    force_inpaint=True, bbox_threshold=0.5, bbox_dilation=0, bbox_crop_factor=1.0,
                    sam_detection_hint="none", sam_dilation=0, sam_threshold=0.9,
                    sam_bbox_expansion=0, sam_mask_hint_threshold=0.7,
                    sam_mask_hint_use_negative="False", drop_size=1,
                    bbox_detector=Detector(segments),
                )[0]  # fmt: skip
        finally:
            sampling.ksampler_wrapper = original
        return drawn, calls

    return run


@torch.inference_mode()
def stock(model, positive, negative, latent):
    """Return what the stock KSampler draws at half the denoise."""
    return nodes.KSampler().sample(
        model, SEED, STEPS, 7.0, "euler", "normal", positive, negative, latent, 0.5
    )[0]["samples"]


def test_face_detailer_redraws_the_face_in_the_style(acfun, loaded, detail, face_mask):
    model, clip, _ = loaded
    before, image = fingerprint(model.model), picture(4, SIDE, SIDE)
    plain_text, style = encode(clip, "a woman in style"), acfun.style()
    styled, fused = acfun.run("ACFunApplyStyle", model=model, clip=clip, style=style, text=TEXT)
    drawn = {
        name: detail(*inputs, image)
        for name, inputs in {
            "both": (styled, fused),
            "adapters": (styled, plain_text),
            "prompt": (model, fused),
            "plain": (model, plain_text),
        }.items()
    }
    pictures = {name: result[0] for name, result in drawn.items()}
    outside = face_mask[0] == 0
    for name, drawn_picture in pictures.items():
        assert torch.equal(drawn_picture[0][outside], image[0][outside])
        others = [other for other in pictures if other != name]
        assert all((drawn_picture - pictures[o]).abs()[0][~outside].mean() > 1e-3 for o in others)
    ((latent, latents),) = drawn["both"][1]
    expected = stock(styled, fused, encode(clip, ""), latent)
    assert torch.allclose(latents, expected, atol=1e-4)
    assert fingerprint(model.model) == before
