"""A style on a whole model: the model itself at strength 0, and the previews' pictures at 1."""

import pytest
import torch
from tiny_backbone import TinyBackbone
from tiny_styles import new_trainables
from tiny_training import Recorder, run, small_config, tiny_pictures
from tiny_unet import RESBLOCKS

from acfun_ops.backbones.backbone import Context
from acfun_ops.method.injection import FULL_STRENGTH, PartStrengths, attach_adapters, fold_adapters
from acfun_ops.sampling.sampler import initial_noise, sample_euler, sampling_sigmas
from acfun_ops.training.events import PreviewEvent
from acfun_ops.training.previews import PREVIEW_GUIDANCE, PREVIEW_STEPS

PROMPT = "a photo of a man in S* style"
NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def backbone():
    return TinyBackbone()


@pytest.fixture(scope="module")
def style():
    return run(small_config()).style


@torch.no_grad()
def predict(backbone, fusion, inserts, tokens, strength=1.0, parts=FULL_STRENGTH):
    prompt = backbone.encode_prompt(PROMPT, "S*", {})
    context = Context(fusion(prompt.tokens, tokens, strength))
    modules = {b: point.module for b, point in backbone.insert_points("resblock").items()}
    folded = fold_adapters(inserts, parts.block_strengths(inserts), backbone.device)
    with attach_adapters(folded, modules):
        return backbone.denoise(NOISE, 2.0, context)


@torch.no_grad()
def plain(backbone):
    return backbone.denoise(NOISE, 2.0, backbone.encode_prompt(PROMPT, "S*", {}))


def test_untrained_style_is_the_model_itself(backbone):
    trainables = new_trainables(widths=RESBLOCKS, image_dim=24)
    tokens = torch.randn(16, 24, generator=torch.Generator().manual_seed(1))
    styled = predict(backbone, trainables.abstract, trainables.inserts(), tokens)
    assert torch.equal(styled, plain(backbone))


def test_trained_style_at_strength_zero_is_the_model_itself(backbone, style):
    parts = style.abstract_fusion(), style.inserts(), style.style_tokens
    none = FULL_STRENGTH.scale(0)
    assert torch.equal(predict(backbone, *parts, 0.0, none), plain(backbone))


@pytest.mark.parametrize(
    ("strength", "parts"),
    [
        (1.0, FULL_STRENGTH.scale(0)),
        (0.0, PartStrengths(middle=0, decoder=0)),
        (0.0, PartStrengths(encoder=0, decoder=0)),
        (0.0, PartStrengths(encoder=0, middle=0)),
    ],
    ids=["abstract", "encoder", "middle", "decoder"],
)
def test_every_part_of_a_trained_style_changes_the_model(strength, parts, backbone, style):
    modules = style.abstract_fusion(), style.inserts(), style.style_tokens
    styled = predict(backbone, *modules, strength, parts)
    assert (styled - plain(backbone)).abs().max() > 1e-3


@torch.no_grad()
def draw(backbone, style, seed):
    """Draw a picture with a style as a node would, from the style alone."""
    vectors = {name: vector.float() for name, vector in style.vectors.items()}
    prompt = backbone.encode_prompt(style.facts.prompt, style.facts.pseudo_word, vectors)
    styled = Context(style.abstract_fusion()(prompt.tokens, style.style_tokens))
    empty = backbone.encode_prompt("", "S*", {})

    def denoise(noisy, sigma):
        guided, unguided = (backbone.denoise(noisy, sigma, c) for c in (styled, empty))
        return unguided + PREVIEW_GUIDANCE * (guided - unguided)

    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    modules = {b: point.module for b, point in backbone.insert_points("resblock").items()}
    with attach_adapters(style.inserts(), modules):
        sigmas = sampling_sigmas(backbone.sigmas, PREVIEW_STEPS)
        latents = sample_euler(denoise, initial_noise(sigmas[0], noise), sigmas)
    return backbone.decode_latents(latents)


def test_preview_is_what_the_style_draws_without_dropout(backbone):
    events = Recorder()
    config = small_config(preview_every=6, dropout=0.5, seed=3)
    result = run(config, on_event=events)
    preview = events.of(PreviewEvent)[-1].picture
    drawn = draw(backbone, result.style, seed=3)
    assert (preview - drawn).abs().mean() < 0.01
    assert (preview - draw(backbone, result.style, seed=4)).abs().mean() > 0.02
    assert (preview - draw(backbone, run(small_config(steps=1)).style, seed=3)).abs().mean() > 0.02


@torch.no_grad()
def nearness_to_style(backbone, style, latents):
    """Where the styled model's answer to a noised blend lies: 0 at the face, 1 at the style."""
    sigma = float(backbone.sigmas[0])
    prompt = backbone.encode_prompt(style.facts.prompt, "S*", {})
    context = Context(style.abstract_fusion()(prompt.tokens, style.style_tokens))
    modules = {b: point.module for b, point in backbone.insert_points("resblock").items()}
    with attach_adapters(style.inserts(), modules):
        answer = backbone.denoise(sum(latents) / 2 + sigma * NOISE, sigma, context)
    to_style, to_face = (float((answer - latent).norm()) for latent in latents)
    return to_face / (to_style + to_face)


# Staged never sees a blend, so where it would draw one says nothing of its weights.
@pytest.mark.parametrize("alignment", ["paired", "imagery", "blend"])
def test_raising_style_weight_in_training_gives_more_style(alignment):
    backbone, pictures = TinyBackbone(), tiny_pictures()
    backbone.sigmas = backbone.sigmas[400:401]
    latents = [backbone.encode_pictures(p) for p in (pictures.style, pictures.face[:, 8:72])]
    nearness = []
    for weight in (0.0, 2.0):
        config = small_config(steps=20, alignment=alignment, style_weight=weight, dropout=0.0)
        style = run(config, backbone).style
        nearness.append(nearness_to_style(backbone, style, latents))
    assert nearness[0] + 1e-3 < nearness[1]
