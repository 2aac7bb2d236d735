"""The pseudo-word as an offset on prompts that ComfyUI's language models have encoded."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch
from pack_nodes import picture
from safetensors.torch import save_file
from stock_nodes import encode, equal_conditioning
from tiny_text_encoders import KINDS, build_clip, is_known
from tiny_transformers import TinyVAE, TinyVision, build_model

LONG = "a very long prompt about an old house by the sea, " * 12
TEXTS = {
    "plain": "A painting of a person in S* style",
    "twice, weights, lines": "(S*:1.2) a hat\nin S*, \\(really\\)\n(S*)",
    "the initial word is there": "style S* style style, S*",
    "a script without spaces": "一幅S*风格的肖像",
    "punctuation": '"S*", S*. [S*] S*! embedding:S*',
    "over 77 tokens": f"{LONG} S* {LONG} S*",
    "first and last": "S* and S*",
}
# No letter of theirs stands where one of "style" does.
OTHERS = ("paper", "class", "count", "panel", "string")
FAMILY = {kind: "flux2" if kind.startswith("flux2") else kind for kind in KINDS}
KNOWN = [kind for kind in KINDS if is_known(kind)]
every_kind = pytest.mark.parametrize("kind", KNOWN)
clip_of = cache(build_clip)


@pytest.fixture
def offsets(pack):
    """Return the pack's modules under test."""
    import acfun_pack.nodes.comfyui.offset_encoder as offset_encoder
    import acfun_pack.nodes.comfyui.prompt_offsets as prompt_offsets

    return SimpleNamespace(**vars(prompt_offsets) | {"Encoder": offset_encoder.OffsetEncoder})


def written(text: str, word: str) -> str:
    """Return a prompt with a word in the pseudo-word's place."""
    return text.replace("embedding:S*", word).replace("S*", word)


def scales_of(offsets: Any, clip: Any, kind: str, text: str, word: str = "style") -> Any:
    """Return a prompt with a word, encoded, and the scales of offsets on it."""
    prompt = offsets.read_prompt(clip, text, "S*", word, FAMILY[kind])
    with torch.inference_mode():
        encoding = clip.encode_from_tokens(prompt.tokens)
    return prompt, encoding, offsets.offset_scales(prompt, encoding)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@every_kind
def test_the_word_stands_where_its_encoding_changes(offsets, kind, text):
    clip = clip_of(kind, mixes=False)
    prompt, one, scales = scales_of(offsets, clip, kind, text)
    assert len(prompt.words) == text.count("S*")
    with torch.inference_mode():
        texts = [written(text, word) for word in ("style", *OTHERS)]
        stock, *others = (clip.encode_from_tokens(clip.tokenize(each)) for each in texts)
    assert torch.equal(one, stock)
    # Of words with as many tokens in this text that grow together with nothing beside them.
    changes = [(one != other).any(dim=-1)[0] for other in others if other.shape == one.shape]
    changed = min(changes, key=lambda each: int(each.sum()))
    placed = sum(scales.values())[0, :, 0] != 0
    assert placed.tolist() == changed.tolist()


@every_kind
def test_attention_leaves_the_word_where_it_is(offsets, kind):
    """A language model's encoding changes from the word on and not before."""
    text = TEXTS["plain"]
    alone, mixed = (
        scales_of(offsets, clip_of(kind, mixes=mixes), kind, text)[2] for mixes in (False, True)
    )
    for part, scale in mixed.items():
        assert torch.equal(scale != 0, alone[part] != 0)


@pytest.mark.parametrize("kind", [k for k in KNOWN if k in ("flux", "chroma", "lumina2", "sd3")])
def test_a_weight_of_the_prompt_is_the_offset_s(offsets, kind):
    clip = clip_of(kind)
    _, encoding, scales = scales_of(offsets, clip, kind, "a hat in (S*:1.5) and S*")
    for scale in scales.values():
        (places,) = scale[0, :, 0].nonzero(as_tuple=True)
        weights = scale[0, places, 0] / encoding[0, places].abs().mean(dim=-1)
        assert weights.tolist() == pytest.approx([1.5, 1.0])


def test_a_word_of_several_tokens_has_an_offset_on_each(offsets):
    scales = scales_of(offsets, clip_of("zimage"), "zimage", "a hat in S*", "ukiyo-e woodcut")[2]
    assert int((scales["qwen3_4b"] != 0).sum()) > 3


def test_a_textual_inversion_for_another_encoder_moves_no_place(offsets):
    folder = Path(folder_paths.get_folder_paths("embeddings")[0])
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"emb_params": torch.randn(2, 768)}, folder / "acfun_offsets.safetensors")
    clip = clip_of("flux", mixes=False).clone()
    clip.tokenizer = type(clip.tokenizer)(embedding_directory=[str(folder)])
    text = "a hat embedding:acfun_offsets in S* style"
    _, one, scales = scales_of(offsets, clip, "flux", text)
    other = clip.encode_from_tokens(clip.tokenize(text.replace("S*", "sport")))
    changed = (one != other).any(dim=-1)[0]
    assert changed.any() and torch.equal(scales["t5xxl"][0, :, 0] != 0, changed)


@pytest.mark.parametrize("lacks", ["clip_l", "clip_g", "t5"])
def test_sd3_may_lack_text_encoders(offsets, lacks):
    clip = build_clip("sd3", mixes=False, **{lacks: False})
    _, one, scales = scales_of(offsets, clip, "sd3", TEXTS["plain"])
    other = clip.encode_from_tokens(clip.tokenize(TEXTS["plain"].replace("S*", "sport")))
    assert list(scales) == (["l"] if lacks == "t5" else ["l", "t5xxl"])
    changed = (one != other).any(dim=-1)[0]
    assert torch.equal(sum(scales.values())[0, :, 0] != 0, changed)


def test_a_word_in_what_the_encoder_cuts_off_is_refused(offsets, acfun):
    text = "<|im_start|>system\nS*<|im_end|>\n<|im_start|>user\na hat<|im_end|>\n"
    with pytest.raises(acfun.error, match=r"no place of its own for each S\* in the prompt"):
        scales_of(offsets, clip_of("qwen_image"), "qwen_image", text)


def test_a_stand_in_that_finds_no_place_is_refused(pack, acfun):
    from acfun_pack.nodes.comfyui.prompts import tokenize

    vectors = {"qwen3_4b": torch.zeros(64)}
    with pytest.raises(acfun.error, match=r"no place of its own for each S\* in the prompt"):
        tokenize(clip_of("zimage"), "a hat in S* style", "S*", vectors)


@every_kind
def test_a_training_encodes_once_and_differentiably(offsets, monkeypatch, kind):
    clip, text = clip_of(kind), TEXTS["plain"]
    stock = {
        t: clip.encode_from_tokens(clip.tokenize(t), return_pooled=True, return_dict=True)
        for t in ("", text.replace("S*", "style"))
    }
    width = stock[""]["cond"].shape[-1]
    encoder = offsets.Encoder(clip, FAMILY[kind], width, torch.device("cpu"))
    start = encoder.zero_offsets("style")
    first = encoder.encode(text, "S*", start)
    expected = stock[text.replace("S*", "style")]
    assert torch.equal(first.tokens, expected.pop("cond")) and not first.tokens.is_inference()
    expected_pooled = expected.pop("pooled_output")
    assert first.pooled is expected_pooled is None or torch.equal(first.pooled, expected_pooled)
    assert first.extra.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in first.extra.items())
    monkeypatch.setattr(type(clip), "encode_from_tokens", None)
    moving = {part: offset.requires_grad_() for part, offset in start.items()}
    moved = encoder.encode(text, "S*", moving).tokens
    gradients = torch.autograd.grad(moved.sum(), list(moving.values()))
    assert all(bool((gradient != 0).all()) for gradient in gradients)
    assert torch.equal(encoder.encode("", "S*", {}).tokens, stock[""]["cond"])


def style_of(acfun: Any, kind: str, width: int, *, trained: bool = True) -> Any:
    """Return a style of a family that learns offsets."""
    from acfun_pack.acfun_ops.method.abstract_fusion import AbstractFusion
    from acfun_pack.acfun_ops.model_families import FAMILIES

    style = acfun.style()
    generator = torch.Generator().manual_seed(3)
    fusion = AbstractFusion(width, style.style_tokens.shape[-1], inner=64)
    fusion.reset_parameters(generator)
    for layer in fusion.layers if trained else ():
        torch.nn.init.normal_(layer.out.weight, std=0.1, generator=generator)
    parts = FAMILIES[FAMILY[kind]].parts or build_clip(kind).tokenize("")
    noise = torch.randn(width, generator=generator) if trained else torch.zeros(width)
    settings = style.facts.settings | {"initial_word": "sport"}
    return replace(
        style,
        facts=replace(style.facts, family=FAMILY[kind], format=3, settings=settings),
        abstract={name: t.detach().half() for name, t in fusion.state_dict().items()},
        vectors={part: noise.half() for part in parts},
    )


@every_kind
def test_apply_afun_embedding_acts_on_the_word_and_then_on_all(acfun, kind):
    clip, text = clip_of(kind), TEXTS["twice, weights, lines"]
    stock = encode(clip, text.replace("S*", "sport"))
    width = stock[0][0].shape[-1]
    untrained = style_of(acfun, kind, width, trained=False)
    assert equal_conditioning(acfun.embed(untrained, clip, text), stock)
    style = style_of(acfun, kind, width)
    ((bare, extra),) = acfun.embed(style, clip, text, strength=0)
    changed = (bare != stock[0][0]).any(dim=-1)[0]
    assert 3 <= int(changed.sum()) < 30
    assert extra.keys() == stock[0][1].keys()
    fused = acfun.embed(style, clip, text)[0][0]
    assert bool((fused != bare).any(dim=-1).all())
    without = acfun.embed(style, clip, "a hat", strength=0)
    assert equal_conditioning(without, encode(clip, "a hat"))


@pytest.mark.parametrize(
    ("kind", "clip", "names"),
    [
        ("zimage", "flux2", r"Z-Image qwen3_4b 64; .* Z-Image / Flux\.2 qwen3_4b 192\."),
        ("zimage", "qwen_image", r"Z-Image; the connected clip is of Qwen-Image\."),
        ("flux", "chroma", r"Flux\.1; the connected clip is of Chroma\."),
        ("flux2", "flux2_dev", r"Flux\.2 qwen3_4b 192; .* Flux\.2 mistral3_24b 192\."),
    ],
)
def test_a_clip_of_another_family_is_refused(acfun, kind, clip, names):
    style = style_of(acfun, kind, encode(clip_of(kind), "")[0][0].shape[-1])
    with pytest.raises(acfun.error, match=f"trained with the CLIP of {names}"):
        acfun.embed(style, clip_of(clip), "in S* style", strength=0)


def test_clips_of_u_nets_and_transformers_refuse_each_others_styles(acfun, comfy):
    sd1 = comfy.checkpoint("sd1")[1]
    with pytest.raises(acfun.error, match=r"CLIP of Z-Image; the connected clip is of SD1\.x\."):
        acfun.embed(style_of(acfun, "zimage", 64), sd1, "in S* style")
    with pytest.raises(acfun.error, match=r"CLIP of SD1\.x; the connected clip is of Z-Image "):
        acfun.embed(acfun.style(), clip_of("zimage"), "in S* style")


@pytest.mark.parametrize(
    "family", [f for f in ("zimage", "chroma", "qwen_image", "anima") if f in KNOWN]
)
def test_a_training_learns_offsets_and_its_style_is_applied(acfun, monkeypatch, family):
    from acfun_pack.acfun_ops.training.config import TrainConfig
    from acfun_pack.acfun_ops.training.events import StepEvent, TrainImages
    from acfun_pack.acfun_ops.training.fit import fit
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    model, clip = build_model(family), clip_of(family)
    encodings, encode_tokens = [], type(clip).encode_from_tokens
    monkeypatch.setattr(
        type(clip),
        "encode_from_tokens",
        lambda *given, **named: encodings.append(0) or encode_tokens(*given, **named),
    )
    settings = {"steps": 5, "learning_rate": 1e-2, "alignment": "staged", "rank": 4, "heads": 4}
    config = TrainConfig(**settings, preview_every=5, prompt="A hat in S* style, S*")
    images = TrainImages(style=picture(1, 96, 96), face=picture(2, 96, 96))
    at_step = []
    with training_backbone(model, clip, TinyVAE(model), TinyVision(), dtype=None) as backbone:
        vars(backbone)["fingerprint"] = "0" * 64
        backbone.native_side = 96
        result = fit(
            backbone,
            images,
            config,
            lambda event: isinstance(event, StepEvent) and bool(at_step.append(len(encodings))),
        )
    assert result.outcome == "finished"
    # The prompt and the empty one, before step 1; no more for a preview.
    assert set(at_step) == {2} and len(encodings) == 2
    style = result.style
    assert style.facts.format == 3 and all(bool(v.any()) for v in style.vectors.values())
    bare = acfun.embed(style, clip, config.prompt, strength=0)[0][0]
    stock = encode(clip, config.prompt.replace("S*", "style"))[0][0]
    assert int((bare != stock).any(dim=-1).sum()) == 2
