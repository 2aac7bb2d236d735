"""ACFun Style Sheet on the small prior, with the stock nodes and the Apply nodes as the oracle."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from comfy.sd import VAE
from comfy_execution.utils import CurrentNodeContext
from pack_nodes import picture
from small_prior_node import PRIOR
from small_prior_node.loading import load_prior
from stock_nodes import encode, fingerprint

import nodes

TEXT = "a painting of a woman with glasses in S* style"
WIDTH, HEIGHT = 64, 96
SETTINGS = {"steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal"}
COLUMNS = {
    "plain": None,
    "abstract only": (1.0, {"strength": 0.0}),
    "encoder only": (0.0, {"middle_strength": 0.0, "decoder_strength": 0.0}),
    "decoder only": (0.0, {"middle_strength": 0.0, "encoder_strength": 0.0}),
    "full": (1.0, {}),
}


@pytest.fixture(scope="module")
def loaded():
    with torch.inference_mode():
        return load_prior(PRIOR)


@pytest.fixture(scope="module")
def style(acfun, loaded):
    names = ("model", "clip", "vae", "clip_vision")
    return acfun.train(
        **dict(zip(names, loaded, strict=True)),
        style_image=picture(1),
        face_image=picture(2),
        prompt=TEXT,
        steps=3,
    )[0]


@pytest.fixture
def draw(acfun, loaded, style):
    model, clip, vae, _ = loaded
    inputs = {"model": model, "clip": clip, "vae": vae, "style": style, "text": TEXT}
    inputs |= SETTINGS | {"width": WIDTH, "height": HEIGHT}
    return lambda **options: acfun.run("ACFunStyleSheet", **inputs | options)


@pytest.fixture(scope="module")
def sheet(acfun, loaded, style):
    model, clip, vae, _ = loaded
    inputs = {"model": model, "clip": clip, "vae": vae, "style": style, "text": TEXT}
    inputs |= SETTINGS | {"width": WIDTH, "height": HEIGHT, "seed": 7, "seeds": 2}
    return acfun.run("ACFunStyleSheet", negative="a photo", **inputs)


@torch.inference_mode()
def stock_picture(acfun, loaded, style, column, seed):
    """Return what KSampler draws with the Apply nodes at a column's strengths."""
    model, clip, vae, _ = loaded
    positive = encode(clip, TEXT.replace("S*", " "))
    if COLUMNS[column] is not None:
        strength, adapters = COLUMNS[column]
        positive = acfun.embed(style, clip, TEXT, strength)
        model = acfun.adapt(model, style, **adapters)
    latent = nodes.EmptyLatentImage().generate(WIDTH, HEIGHT)[0]
    settings = SETTINGS.values()
    sampled = nodes.KSampler().sample(
        model, seed, *settings, positive, encode(clip, "a photo"), latent
    )
    return nodes.VAEDecode().decode(vae, sampled[0])[0]


@pytest.mark.parametrize("column", COLUMNS)
def test_cells_are_what_the_apply_nodes_draw(acfun, loaded, style, sheet, column):
    place = list(COLUMNS).index(column)
    for row in range(2):
        expected = stock_picture(acfun, loaded, style, column, 7 + row)
        assert torch.equal(sheet[1][row * len(COLUMNS) + place], expected[0])


def test_columns_and_rows_differ(sheet):
    pictures = sheet[1]
    assert pictures.shape == (10, HEIGHT, WIDTH, 3)
    assert all(not torch.equal(a, b) for n, a in enumerate(pictures) for b in pictures[:n])


def test_sheet_holds_the_pictures_and_labels(sheet):
    labelled, pictures = (part.numpy() for part in sheet)
    levels = (255 * pictures).astype(np.uint8)
    page = (255 * labelled[0]).round().astype(np.uint8)
    assert page.shape[0] > 2 * HEIGHT and page.shape[1] > 5 * WIDTH
    windows = np.lib.stride_tricks.sliding_window_view(page, (HEIGHT, WIDTH, 3))[:, :, 0]
    corners = windows[:, :, 0, 0]
    for level in levels:
        places = np.argwhere((corners == level[0, 0]).all(axis=-1))
        assert any(np.array_equal(windows[y, x], level) for y, x in places)
    header = page[: page.shape[0] - 2 * (HEIGHT + 4) - 8]
    assert (header < 100).any()  # The names of the columns.


def test_seed_after_the_last_one_is_0(acfun, draw):
    acfun.texts.clear()
    pictures = draw(seed=2**64 - 1, seeds=2)[1]
    assert torch.equal(pictures[len(COLUMNS) :], draw(seed=0, seeds=1)[1])
    assert f"picture 5 of 10: seed {2**64 - 1}, full" in acfun.texts
    assert "picture 6 of 10: seed 0, plain" in acfun.texts


def test_model_is_as_before(acfun, loaded, draw):
    model, clip, vae, _ = loaded
    networks = (model.model.diffusion_model, clip.cond_stage_model, vae.first_stage_model)
    before = [fingerprint(network) for network in networks]
    draw(seeds=1)
    assert [fingerprint(network) for network in networks] == before
    assert not model.wrappers and not model.object_patches


def test_missing_word_and_missing_vae_are_said(acfun, draw):
    acfun.texts.clear()
    draw(seeds=1, text="a painting of a woman")
    assert any("does not hold this style's word" in text for text in acfun.texts)
    for missing in (None, VAE(sd={})):  # As a checkpoint without a VAE brings it.
        with pytest.raises(acfun.error, match="The socket vae brings nothing"):
            draw(vae=missing)


def test_what_the_adapters_say_stays_on_the_sheet(acfun, loaded, draw):
    def skip(apply_model, call):
        return call["input"]

    model = loaded[0].clone()
    model.set_model_unet_function_wrapper(skip)
    acfun.texts.clear()
    with CurrentNodeContext("run", "node"):
        draw(seeds=2, model=model, text="a woman")
    own, said, facts = acfun.ui["text"][0].split("\n")
    assert "does not hold this style's word" in own and "adapters never acted" in said
    assert acfun.texts.count(said) == 1  # It stood there while the others were drawn.
    assert acfun.shown == [own, said, facts]
    assert acfun.ui["images"] and acfun.ui["acfun"]
    draw(seeds=1)
    assert json.loads(acfun.ui["text"][0]) and "adapters never acted" not in acfun.shown[0]


def test_text_is_what_to_send_with_the_sheet(acfun, style, draw):
    draw(seeds=1, seed=4)
    (text,) = acfun.shown
    facts = json.loads(text)
    assert facts["sampling"] == SETTINGS | {"width": WIDTH, "height": HEIGHT, "seeds": [4]}
    assert facts["style"]["settings"] == style.facts.settings
    assert facts["seconds"]["images"] > 0 and facts["card"] == {"name": "cpu"}
    assert facts["versions"].keys() == {"acfun", "comfyui", "python", "torch"}
    assert style.facts.style_hash not in text
