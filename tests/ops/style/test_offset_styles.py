"""Styles whose pseudo-word is an offset on the encoded prompt: style format 3, from fit to file."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from style_refusals import refuse
from tiny_backbone import WIDTH, TinyBackbone
from tiny_styles import FACTS, TEXT_WIDTH, sample_style, split_file, with_metadata
from tiny_training import Recorder, run, small_config

from acfun_ops.backbones.backbone import Context
from acfun_ops.cli.inspect import describe
from acfun_ops.errors import ACFunError
from acfun_ops.method.abstract_fusion import AbstractFusion, inner_width
from acfun_ops.method.concrete_fusion import ConcreteFusion
from acfun_ops.model_families import FAMILIES
from acfun_ops.style.blend import blend_styles, cross_styles
from acfun_ops.style.style import style_bytes
from acfun_ops.style.style_file import load_style, save_style

SETTINGS = {"initial_word": "style", "rank": 3}
# Width of the encoded prompt, and channels of the blocks of the largest model of each family.
SHAPES = {
    "zimage": (2560, 30, 3840),
    "lumina2": (2304, 26, 2304),
    "flux": (4096, 57, 3072),
    "flux2": (15360, 56, 6144),
    "chroma": (4096, 57, 3072),
    "sd3": (4096, 38, 2432),
    "qwen_image": (3584, 60, 3072),
    "anima": (1024, 28, 2048),
}


class OffsetBackbone(TinyBackbone):
    """A tiny model whose prompt is encoded with a word in the pseudo-word's place."""

    family = "zimage"

    def word_vectors(self, word):
        self.word = word
        return {"qwen3_4b": torch.zeros(WIDTH)}

    def encode_prompt(self, prompt, pseudo_word, vectors):
        words = prompt.replace(pseudo_word, getattr(self, "word", ""))
        tokens = super().encode_prompt(words, pseudo_word, {}).tokens
        for offset in vectors.values():
            tokens = tokens + torch.arange(tokens.shape[1])[:, None].eq(4) * offset
        return Context(tokens)


def offset_style(seed=0, settings=SETTINGS, **facts):
    style = sample_style(seed, family="zimage", format=3, settings=settings, **facts)
    generator = torch.Generator().manual_seed(seed)
    return replace(style, vectors={"qwen3_4b": torch.randn(TEXT_WIDTH, generator=generator).half()})


def test_a_style_with_offsets_is_saved_and_loaded(tmp_path):
    style = offset_style()
    save_style(style, tmp_path / "style.safetensors")
    loaded = load_style(tmp_path / "style.safetensors")
    assert loaded.facts == style.facts and loaded.digest == style.digest
    assert torch.equal(loaded.vectors["qwen3_4b"], style.vectors["qwen3_4b"])
    header, _ = split_file(style_bytes(style))
    assert "offset.qwen3_4b" in header and not any(name.startswith("token.") for name in header)
    assert header["__metadata__"]["modelspec.architecture"] == "z-image/acfun"
    assert "offsets for qwen3_4b" in "\n".join(describe(style))


@pytest.mark.parametrize(
    "facts",
    [
        {"format": 1},
        {"format": 2},
        {"family": "sdxl"},
        {"settings": {"rank": 3}},
        {"settings": {"initial_word": " "}},
        {"settings": {"initial_word": 7}},
    ],
)
def test_a_format_that_is_not_the_family_s_is_refused(facts, tmp_path):
    whole = asdict(offset_style().facts) | facts
    del whole["shares"]
    content = with_metadata(style_bytes(offset_style()), json.dumps(whole))
    refuse(tmp_path / "my style.safetensors", content, "out of range|that no style has")


def test_token_vectors_of_a_u_net_make_no_offsets(tmp_path):
    whole = asdict(FACTS) | {"format": 3}
    content = with_metadata(style_bytes(sample_style()), json.dumps(whole))
    refuse(tmp_path / "my style.safetensors", content, "out of range")


def test_an_offset_of_another_width_than_the_prompt_s_is_refused(tmp_path):
    style = replace(offset_style(), vectors={"qwen3_4b": torch.ones(TEXT_WIDTH - 1).half()})
    refuse(tmp_path / "my style.safetensors", style_bytes(style), "vectors have the wrong shape")


def test_blends_keep_the_word_and_the_format(tmp_path):
    a, b = offset_style(), offset_style(1)
    blend = blend_styles(a, b, 0.5)
    save_style(blend, tmp_path / "style.safetensors")
    loaded = load_style(tmp_path / "style.safetensors")
    assert loaded.digest == blend.digest and loaded.facts.format == 3
    assert [m.facts.settings["initial_word"] for _, m in loaded.members] == ["style", "style"]
    assert torch.equal(loaded.members[1][1].vectors["qwen3_4b"], b.vectors["qwen3_4b"])
    other = offset_style(1, SETTINGS | {"initial_word": "oil"})
    assert cross_styles(a, other).facts.settings["initial_word"] == "style"
    with pytest.raises(ACFunError, match="initial word: style_a has style, style_b oil"):
        blend_styles(a, other, 0.5)


def test_a_training_learns_an_offset_and_resumes_to_the_same_bytes():
    config = small_config(steps=6)
    whole = run(config, OffsetBackbone()).style
    assert (whole.facts.format, list(whole.vectors)) == (3, ["qwen3_4b"])
    assert bool(whole.vectors["qwen3_4b"].any())
    stopped = run(config, OffsetBackbone(), on_event=Recorder(stop_at=3))
    resumed = run(config, OffsetBackbone(), resume=(stopped.style, stopped.state))
    assert style_bytes(resumed.style) == style_bytes(whole)


def test_a_style_is_resumed_on_its_own_family_alone():
    config = small_config(steps=2)
    style = run(config, OffsetBackbone()).style
    with pytest.raises(ACFunError, match=r"was trained on Z-Image; this model is SD1\.x"):
        run(config, TinyBackbone(), resume=(style, None))


def test_afun_is_narrow_on_wide_encoders_alone():
    assert [inner_width(width, 8) for width in (768, 1024, 2048)] == [192, 256, 512]
    assert inner_width(2560, 8, 320) == 320 and inner_width(2560, 7, 320) == 315
    assert inner_width(1024, 8, 320) == 256 and inner_width(16, 64, 320) == 64
    with pytest.raises(ValueError, match="3, 4"):
        AbstractFusion(16, 8, heads=3, inner=4)


def test_a_training_takes_the_family_s_inner_width(monkeypatch):
    monkeypatch.setitem(FAMILIES, "zimage", replace(FAMILIES["zimage"], most_inner=2))
    style = run(small_config(steps=1), OffsetBackbone()).style
    assert tuple(style.abstract["layers.0.query.weight"].shape) == (2, WIDTH)
    style.abstract_fusion()(torch.zeros(1, 2, WIDTH), style.style_tokens.float())


@pytest.mark.parametrize("family", SHAPES)
def test_usual_sizes_of_transformers_are_what_is_promised(family):
    width, blocks, channels = SHAPES[family]
    row = FAMILIES[family]
    with torch.device("meta"):
        fusion = AbstractFusion(width, 1024, inner=inner_width(width, 8, row.most_inner))
        insert = ConcreteFusion(channels, 32, "std")
    numbers = [sum(p.numel() for p in module.parameters()) for module in (fusion, insert)]
    size = 2 * (numbers[0] + blocks * numbers[1] + 257 * 1024)
    assert row.usual_bytes * 0.7 < size < row.usual_bytes
