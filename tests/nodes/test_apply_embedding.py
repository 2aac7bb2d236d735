"""Apply AFun Embedding, with CLIP Text Encode and its textual inversion as the oracle."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import pytest
import torch
from safetensors.torch import save_file
from stock_nodes import encode, equal_conditioning, fingerprint, leftovers, sample, with_lora

FAMILIES = ["sd1", "sd2_v", "sdxl"]
WIDTHS = {"l": 768, "h": 1024, "g": 1280}
ENCODERS = {"sd1": "l", "sd2_v": "h", "sdxl": "lg"}
LONG = "a very long prompt about an old house by the sea, " * 12
TEXTS = {
    "plain": "a painting of a woman",
    "weights": "a (painting:1.3) of a ((woman)) with [hats] \\(really\\)",
    "embedding": "a photo of embedding:acfun_random in the (embedding:acfun_random:0.7) rain",
    "over 77 tokens": LONG,
    "empty": "",
    "S* inside a word": "GRASS* and S*x",
}


@pytest.fixture
def embeddings():
    """Return the folder of textual inversion files."""
    folder = Path(folder_paths.get_folder_paths("embeddings")[0])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_embedding(path, vectors):
    """Write a textual inversion file as it is for one text encoder, or for SDXL."""
    vectors = {encoder: vector.reshape(-1, vector.shape[-1]) for encoder, vector in vectors.items()}
    only = {"emb_params": next(iter(vectors.values()))}
    sdxl = {f"clip_{encoder}": vector for encoder, vector in vectors.items()}
    save_file(only if len(vectors) == 1 else sdxl, path)


def write_random_embedding(folder, family):
    """Write the two vectors that the text "embedding" names."""
    generator = torch.Generator().manual_seed(7)
    vectors = {e: torch.randn(2, WIDTHS[e], generator=generator) * 0.02 for e in ENCODERS[family]}
    write_embedding(folder / "acfun_random.safetensors", vectors)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_strength_0_equals_clip_text_encode(acfun, comfy, embeddings, family, text):
    write_random_embedding(embeddings, family)
    clip, style = comfy.checkpoint(family)[1], acfun.style(family)
    stock = encode(clip, text)
    assert equal_conditioning(acfun.embed(style, clip, text, strength=0), stock)
    fused = acfun.embed(style, clip, text, strength=1)
    assert not torch.allclose(fused[0][0], stock[0][0], atol=1e-2)
    assert torch.equal(fused[0][1]["pooled_output"], stock[0][1]["pooled_output"])


@pytest.mark.parametrize("family", FAMILIES)
def test_random_embedding_is_found_and_acts(comfy, embeddings, family):
    write_random_embedding(embeddings, family)
    clip = comfy.checkpoint(family)[1]
    assert not equal_conditioning(
        encode(clip, TEXTS["embedding"]), encode(clip, "a photo of in the ( :0.7) rain")
    )


@pytest.mark.parametrize(
    "text",
    [
        "S*",
        "S* first",
        "a painting of a person in S* style",
        "S* in S* and (S*:1.4)",
        "a (woman in S* style:0.6) laughing",
        f"{LONG} in S* style, {LONG}",
        "sks lun S* grr",
        "S* and embedding:acfun_random",
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_pseudo_word_equals_an_embedding_file_of_its_vector(acfun, comfy, embeddings, family, text):
    style, clip = acfun.style(family), comfy.checkpoint(family)[1]
    write_random_embedding(embeddings, family)
    write_embedding(embeddings / "acfun_word.safetensors", style.vectors)
    stock = encode(clip, text.replace("S*", "embedding:acfun_word"))
    plain = acfun.embed(style, clip, text, strength=0)
    assert equal_conditioning(plain, stock)
    assert not equal_conditioning(plain, encode(clip, text.replace("S*", "style")))
    fused = acfun.embed(style, clip, text)
    assert torch.equal(fused[0][1]["pooled_output"], stock[0][1]["pooled_output"])


def test_a_training_with_another_embedding_of_that_name_is_another(acfun, embeddings):
    def train():
        acfun.texts.clear()
        inputs = acfun.train_inputs() | {"seed": 75, "retrain": False}
        inputs["prompt"] = "A painting of embedding:acfun_random in S* style"
        style = acfun.run("ACFunTrainStyle", **inputs)[0]
        return acfun.bytes_of(style), any("trained before" in text for text in acfun.texts)

    write_random_embedding(embeddings, "sd1")
    first, is_old = train()
    assert not is_old
    write_embedding(embeddings / "acfun_random.safetensors", acfun.style().vectors)
    other, is_old = train()
    assert not is_old and other != first
    write_random_embedding(embeddings, "sd1")
    assert train() == (first, True)


TOUCHING = ["in S*, red", "in S*: red", "(S*)", '"S*"', "in\nS*\nred", "一幅S*风格的女人肖像"]


@pytest.mark.parametrize("text", [*TOUCHING, "(embedding:S*:1.2)", "embedding:S*"])
def test_pseudo_word_is_found_beside_other_signs(acfun, comfy, embeddings, text):
    style, clip = acfun.style(), comfy.checkpoint("sd1")[1]
    write_embedding(embeddings / "acfun_word.safetensors", style.vectors)
    stock = encode(clip, text.replace("embedding:", "").replace("S*", " embedding:acfun_word "))
    assert equal_conditioning(acfun.embed(style, clip, text, strength=0), stock)


def test_fused_embedding_is_what_the_method_computes(acfun, comfy):
    style, clip = acfun.style(), comfy.checkpoint("sd1")[1]
    text = acfun.embed(style, clip, "in S* style", strength=0)[0][0]
    fusion = style.abstract_fusion()
    expected = fusion(text, style.style_tokens, 0.7)
    assert torch.equal(acfun.embed(style, clip, "in S* style", strength=0.7)[0][0], expected)


def test_strength_moves_in_a_straight_line_from_the_text_to_the_style(acfun, comfy):
    style, clip = acfun.style(), comfy.checkpoint("sd1")[1]
    none, half, full = (
        acfun.embed(style, clip, "in S* style", strength=s)[0][0] for s in (0.0, 0.5, 1.0)
    )
    assert torch.allclose(half, (none + full) / 2, atol=1e-4)
    assert not torch.allclose(half, full, atol=1e-2)


@pytest.mark.parametrize("patch", ["clip skip", "lora"])
def test_patched_clip_is_encoded_as_stock_does(acfun, comfy, models_dir, patch):
    model, plain, _ = comfy.checkpoint("sd1")
    if patch == "lora":
        clip = with_lora(model, plain, models_dir.name("lora"))[1]
    else:
        clip = plain.clone()
        clip.clip_layer(-2)
    encoded = acfun.embed(acfun.style(), clip, "a woman", strength=0)
    assert equal_conditioning(encoded, encode(clip, "a woman"))
    assert not equal_conditioning(encoded, encode(plain, "a woman"))


def test_encoding_leaves_the_clip_as_it_was(acfun, comfy):
    clip = comfy.checkpoint("sd1")[1]
    before = fingerprint(clip.cond_stage_model), encode(clip, "sks style")
    acfun.embed(acfun.style(), clip, "sks in S* style")
    assert fingerprint(clip.cond_stage_model) == before[0]
    assert equal_conditioning(encode(clip, "sks style"), before[1])
    assert leftovers(clip.cond_stage_model) == []


def test_the_sampler_draws_another_picture_under_a_fused_prompt(acfun, comfy):
    model, clip, _ = comfy.checkpoint("sd1")
    negative, text = encode(clip, ""), "a woman"
    pictures = [
        sample(model, acfun.embed(acfun.style(), clip, text, strength), negative)[-1]
        for strength in (0.0, 0.5, 1.0)
    ]
    assert torch.equal(pictures[0], sample(model, encode(clip, text), negative)[-1])
    assert not torch.allclose(pictures[0], pictures[1], atol=1e-3)
    assert not torch.allclose(pictures[1], pictures[2], atol=1e-3)


@pytest.mark.parametrize("text", ["in s* style", "in S * style", "in V* style", "GRASS*", ""])
def test_a_prompt_without_the_style_word_is_said_on_the_node(acfun, comfy, text):
    style, clip = acfun.style(), comfy.checkpoint("sd1")[1]
    acfun.texts.clear()
    acfun.embed(style, clip, text)
    assert len(acfun.texts) == 1
    assert "does not hold this style's word S*" in acfun.texts[0]


def skipping(clip, layer):
    skipped = clip.clone()
    skipped.clip_layer(layer)
    return skipped


def test_a_style_carries_the_clip_skip_that_it_was_trained_with(acfun, comfy):
    clip, plain = comfy.checkpoint("sd1")[1], acfun.style()
    style = acfun.train(clip=skipping(clip, -3), steps=1)[0]
    assert "clip_layer" not in plain.facts.settings and style.facts.settings["clip_layer"] == -3
    (blend,) = acfun.run("ACFunBlendStyles", style_a=style, style_b=plain, ratio=0.25)
    for trained in (style, blend):
        for used in (clip, skipping(clip, -1), skipping(clip, -3)):
            acfun.texts.clear()
            acfun.embed(trained, used, "in S* style")
            said = ["layer -3, and this clip gives layer -1" in text for text in acfun.texts]
            assert said == [True] * (used.layer_idx != -3)


@pytest.mark.parametrize(("family", "own"), [("sd1", -1), ("sd2_v", -2), ("sdxl", -2)])
def test_the_clips_own_layer_is_no_other_skip(acfun, comfy, family, own):
    clip, style = comfy.checkpoint(family)[1], acfun.style(family)
    for layer in (own, -3):
        acfun.texts.clear()
        acfun.embed(style, skipping(clip, layer), "in S* style")
        said = [f"layer {own}, and this clip gives layer -3" in text for text in acfun.texts]
        assert said == [True] * (layer == -3)


@pytest.mark.parametrize("text", ["S*", "(in S*:1.2) style", "S*, red"])
def test_a_prompt_with_the_style_word_says_nothing(acfun, comfy, text):
    style, clip = acfun.style(), comfy.checkpoint("sd1")[1]
    acfun.texts.clear()
    acfun.embed(style, clip, text)
    assert acfun.texts == []
