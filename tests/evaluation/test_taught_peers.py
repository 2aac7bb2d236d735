"""Peers that are pretrained once for all pairs: pretraining, adapter, feed-forward network."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from quality_pairs import drawn_pair

from evaluation.benchmark import Sampling, Task
from evaluation.methods import instantstyle
from evaluation.methods.instantstyle import InstantStyle, content_words, text_features
from evaluation.methods.ip_adapter import (
    apply_adapter,
    drop_conditions,
    image_embedding,
    new_adapter,
)
from evaluation.methods.peers import read_tensors, sample
from evaluation.methods.pretraining import load_first_drawings, pretrain
from evaluation.toy import drawings as nano_drawings

SAMPLING = Sampling(steps=4, guidance=2.0)


def test_first_drawings_are_the_training_sets_and_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(nano_drawings, "CHUNK", 3)
    drawn = load_first_drawings(tmp_path, 5)
    whole = nano_drawings.draw_set(9, nano_drawings.SEED, workers=1)
    assert np.array_equal(drawn.images, whole.images[:5])
    assert drawn.captions == whole.captions[:5]
    together = load_first_drawings(tmp_path / "together", 5, workers=2)
    assert np.array_equal(together.images, drawn.images)
    monkeypatch.setattr(nano_drawings, "draw_chunk", None)
    assert np.array_equal(load_first_drawings(tmp_path, 5).labels, whole.labels[:5])


@pytest.mark.parametrize(
    ("caption", "content"),
    [
        ("", "a painting"),
        ("a sketch of a woman in gray style with bold strokes and outlines", "a woman"),
        ("a photo of a man with long red hair and glasses looking left", None),
        (
            "a poster of a man with beard smiling in red style with outlines",
            "a man with beard smiling",
        ),
    ],
)
def test_content_is_what_a_caption_says_but_the_manner(caption, content):
    expected = caption.replace("a photo", "a painting") if content is None else content
    if content not in (None, "a painting"):
        expected = f"a painting of {content}"
    assert content_words(caption) == expected


def hanging(backbone, scale, blocks="", of=3):
    adapter = new_adapter(backbone, 0)
    picture = drawn_pair(of).style[None, ::2, ::2]
    return apply_adapter(backbone, adapter, blocks, scale), image_embedding(backbone, picture)


def drawn_with(task, *rest):
    backbone = task.backbone
    context = backbone.encode_prompt("a painting", "S*", {})
    block, embedding = hanging(backbone, *rest)
    with block as seen:
        seen[:] = [torch.cat([embedding, torch.zeros_like(embedding)])]
        return sample(task, context)


def test_adapter_of_no_scale_changes_nothing_and_goes_without_a_trace(backbone, task, caplog):
    context = backbone.encode_prompt("a painting", "S*", {})
    plain = sample(task, context)
    before = copy.deepcopy(backbone.unet.state_dict())
    assert torch.equal(drawn_with(task, 0.0), plain)
    first = drawn_with(task, 1.0)
    assert not torch.equal(first, plain)
    assert not torch.equal(drawn_with(task, 1.0, "", 4), first)
    assert torch.equal(sample(task, context), plain)
    after = backbone.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not caplog.records


def test_adapter_acts_in_the_named_blocks_alone(backbone, task):
    context = backbone.encode_prompt("a painting", "S*", {})
    plain = sample(task, context)
    assert torch.equal(drawn_with(task, 1.0, "no such block"), plain)
    names = [n for n in backbone.unet.attn_processors if n.endswith("attn2.processor")]
    one, two = (drawn_with(task, 1.0, name) for name in (names[0], names[-1]))
    assert not torch.equal(one, plain)
    assert not torch.equal(one, two)


def test_adapter_sees_the_picture_under_the_prompt_and_nothing_under_the_empty_one(backbone, task):
    clip_embedding = []
    block, embedding = hanging(backbone, 1.0)
    with block as seen:
        seen[:] = [torch.cat([embedding, torch.zeros_like(embedding)])]
        projection = backbone.unet.encoder_hid_proj
        hook = projection.register_forward_pre_hook(
            lambda m, args: clip_embedding.append(args[0][0])
        )
        sample(task, backbone.encode_prompt("x", "S*", {}))
        hook.remove()
    assert clip_embedding[0].shape == (4, 1, embedding.shape[-1])
    assert torch.equal(clip_embedding[0][:2, 0], embedding.expand(2, -1))
    assert not clip_embedding[0][2:].any()


def test_prompts_and_pictures_are_dropped_now_and_then():
    tokens, embeddings = torch.ones(4000, 2, 3), torch.ones(4000, 5)
    generator = torch.Generator().manual_seed(0)
    kept, seen = drop_conditions(tokens, embeddings, torch.full((1, 2, 3), 7.0), generator)
    no_text, no_image = (kept == 7).all(dim=(1, 2)), (seen == 0).all(dim=1)
    shares = [float(m.float().mean()) for m in (no_text, no_image, no_text & no_image)]
    assert shares == pytest.approx([0.1, 0.1, 0.05], abs=0.02)


def taught(method, backbone, pair, folder, steps):
    path = folder / f"{type(method).__name__}-{steps}.safetensors"
    method.learn(backbone, pair, steps, path)
    return path


def test_adapter_learns_while_the_unet_stays(backbone, pair, tmp_path, few_drawings):
    path = taught(InstantStyle(), backbone, pair, tmp_path, 4)
    groups, start = read_tensors(path, backbone.device), new_adapter(backbone, 0)
    moved = [
        not torch.equal(groups[group][name], tensor)
        for group in start
        for name, tensor in start[group].items()
    ]
    assert all(moved)
    assert not any(p.requires_grad for p in backbone.unet.parameters())
    other = taught(InstantStyle(), backbone, drawn_pair(1), tmp_path / "other", 4)
    assert other.read_bytes() == path.read_bytes()


def test_adapters_loss_falls(backbone, pair, tmp_path, few_drawings, monkeypatch):
    losses = []

    def watched(parameters, loss, *rest):
        def mean():
            with torch.no_grad():
                draws = (torch.Generator().manual_seed(n) for n in range(6))
                return sum(float(loss(generator)) for generator in draws)

        losses.append(mean())
        pretrain(parameters, loss, *rest)
        losses.append(mean())

    monkeypatch.setattr(instantstyle, "pretrain", watched)
    taught(InstantStyle(learning_rate=1e-2), backbone, pair, tmp_path, 15)
    assert losses[1] < losses[0]


def test_words_foretell_the_embedding_of_what_they_say(backbone, pair, tmp_path, few_drawings):
    content = read_tensors(taught(InstantStyle(), backbone, pair, tmp_path, 1), backbone.device)[
        "content"
    ]
    paintings = instantstyle._Paintings(backbone, tmp_path)
    predicted = paintings.features @ content["predicted"]
    off = (paintings.embeddings - predicted).square().mean()
    assert off < (paintings.embeddings - content["mean"]).square().mean()
    features_ = text_features(backbone, ["a painting of a man", "a painting of a woman"])
    assert not torch.equal(features_[0], features_[1])
    assert (features_[:, -1] == 1).all()


def test_instant_styles_choices_act_at_drawing_and_share_one_teaching(
    backbone, pair, noise, tmp_path, few_drawings
):
    usual = InstantStyle(block="up_blocks")
    path = taught(usual, backbone, pair, tmp_path, 4)
    said = replace(pair, style_prompt="a painting of a man with beard in S* style")

    def samples(pair_, **changes):
        method = replace(usual, **changes)
        assert method.training_key() == usual.training_key()
        return method.generate(Task(backbone, pair_, path, noise, SAMPLING))[0]

    first = samples(said)
    assert torch.equal(samples(replace(said, face=drawn_pair(1).face)), first)
    for changes in (
        {"block": "down_blocks"},
        {"scale": 0.5},
        {"subtracted": 0.0},
        {"named": True},
        {"strength": 0.5},
    ):
        assert not torch.equal(samples(said, **changes), first), changes
    other = replace(said, style_prompt="a painting of a woman in S* style")
    assert torch.equal(samples(other, subtracted=0.0), samples(said, subtracted=0.0))
    assert not torch.equal(samples(other), first)
    spliced = replace(said, spliced=drawn_pair(2).face)
    from_photo = samples(spliced, strength=0.5)
    assert not torch.equal(samples(spliced, strength=0.5, spliced=True), from_photo)
