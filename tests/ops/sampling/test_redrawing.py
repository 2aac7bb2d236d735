"""The face redrawn by the frozen model with the style's self-attention."""

import pytest
import torch
from tiny_backbone import TinyBackbone

from acfun_ops.method.alignment_loss import Redrawing, match_statistics
from acfun_ops.sampling.sampler import StoppedError, batch_contexts, sample_euler, sampling_sigmas
from acfun_ops.sampling.style_injection import Restyler, ddim_invert

QUICK = Redrawing(steps=6)


def latents(seed=3):
    generator = torch.Generator().manual_seed(seed)
    style, face = 0.5 * torch.randn(2, 1, 4, 8, 8, generator=generator)
    return style + 0.5, face


def redraw(style, face, how=QUICK, backbone=None, prompt="a woman", **kwargs):
    backbone = backbone or TinyBackbone(prediction="v")
    plain, prompt = (backbone.encode_prompt(text, "S*", {}) for text in ("", prompt))
    restyler = Restyler(backbone, plain, prompt, how, **kwargs)
    return restyler.restyle(restyler.invert(style), restyler.invert(face))


def test_it_repeats_and_depends_on_both_pictures_and_on_every_setting():
    style, face = latents()
    other_style, other_face = latents(seed=4)
    results = [
        redraw(style, face),
        redraw(other_style, face),
        redraw(style, other_face),
        redraw(style, face, Redrawing(steps=6, kept_query=0.2)),
        redraw(style, face, Redrawing(steps=6, temperature=4.0)),
        redraw(style, face, Redrawing(steps=5)),
        redraw(style, face, Redrawing(steps=6, guidance=2.0)),
        redraw(style, face, prompt="a man"),
    ]
    assert torch.equal(results[0], redraw(style, face))
    assert all(result.shape == face.shape for result in results)
    assert len({round(float(result.square().sum()), 4) for result in results}) == len(results)


def test_a_picture_in_its_own_style_comes_back():
    _, face = latents()
    same = Redrawing(steps=50, temperature=1.0)
    off = (redraw(face, face, same, prompt="") - face).square().mean()
    assert off < 0.01 * face.var()


def test_colours_go_over_to_the_face():
    style, face = latents()
    result = redraw(style, face)
    means = [x.mean(dim=(2, 3)) for x in (result, style, face)]
    assert (means[0] - means[1]).norm() < 0.5 * (means[2] - means[1]).norm()


def test_guidance_goes_on_from_the_empty_prompt():
    style, face = latents()
    plain = redraw(style, face, prompt="")
    guided = redraw(style, face, Redrawing(steps=6, guidance=3.0), prompt="")
    assert torch.allclose(guided, plain, atol=1e-4)
    off = redraw(style, face, Redrawing(steps=6, guidance=0.0), prompt="a man")
    assert torch.allclose(off, plain, atol=1e-4)
    assert not torch.allclose(redraw(style, face, prompt="a man"), plain, atol=1e-4)


def redraw_in_batch_contexts(style, face, how):
    """Restyle as StyleID is written: style, face and what is sampled are rows of one batch."""
    backbone = TinyBackbone(prediction="v")
    contexts = [backbone.encode_prompt(text, "S*", {}) for text in ("", "", "", "a woman")]
    sigmas = sampling_sigmas(backbone.sigmas, how.steps)

    def invert(noisy, sigma):
        return backbone.denoise(noisy, sigma, contexts[0])

    path = ddim_invert(invert, torch.cat([style, face]), sigmas, float(backbone.sigmas[0]))
    at = dict(zip(sigmas, reversed(path), strict=True))
    context = batch_contexts(contexts)

    def query(module, args, output):
        content, own = output[1:2].expand_as(output[2:]), output[2:]
        return torch.cat([output[:2], how.temperature * torch.lerp(own, content, how.kept_query)])

    def source(module, args, output):
        return torch.cat([output[:2], output[:1].expand_as(output[2:])])

    def denoise(noisy, sigma):
        drawn = backbone.denoise(torch.cat([at[sigma], noisy, noisy]), sigma, context)[2:]
        return torch.lerp(drawn[:1], drawn[1:], how.guidance)

    for attention in backbone.self_attentions():
        attention.to_q.register_forward_hook(query)
        attention.to_k.register_forward_hook(source)
        attention.to_v.register_forward_hook(source)
    return sample_euler(denoise, match_statistics(path[-1][1:], path[-1][:1]), sigmas)


def test_it_is_what_one_batch_of_style_face_and_both_prompts_gives():
    style, face = latents()
    how = Redrawing(temperature=2.5, steps=10, guidance=2.0)
    expected = redraw_in_batch_contexts(style, face, how)
    assert torch.allclose(redraw(style, face, how), expected, atol=1e-4)
    assert (expected - face).abs().max() > 0.1


def test_forwards_are_counted_by_sample():
    backbone, samples = TinyBackbone(), []
    denoise = backbone.denoise

    def count(noisy, sigma, context):
        samples.append(len(noisy))
        return denoise(noisy, sigma, context)

    backbone.denoise = count
    redraw(*latents(), Redrawing(steps=10, guidance=2.0), backbone)
    assert samples == [1] * 11 + [1] * 11 + [2] * 10


@pytest.mark.parametrize("step", [1, 10, 20])
def test_it_is_told_of_every_step_and_stops_when_asked(step):
    backbone, told = TinyBackbone(), []

    def on_step():
        told.append(1)
        return len(told) == step

    with pytest.raises(StoppedError):
        redraw(*latents(), backbone=backbone, on_step=on_step)
    assert len(told) == step
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.models.modules())
    redraw(*latents(), on_step=lambda: told.append(1))
    assert len(told) == step + 2 * (QUICK.steps + 1) + QUICK.steps
