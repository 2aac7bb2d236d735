"""Each candidate changes what is learnt or drawn, while it lasts and no longer."""

from typing import get_args

import pytest
import torch

from acfun_ops.method import concrete_fusion
from acfun_ops.method.concrete_fusion import ConcreteFusion, PartStrengths, part_of
from acfun_ops.training import fit as training
from acfun_ops.training.config import TrainConfig
from evaluation.benchmark import Sampling
from evaluation.methods.acfun import Acfun
from evaluation.sections.candidates import Candidate, Change, changed

SAMPLING = Sampling(steps=2, guidance=1.0)
STEPS = 8
CONFIG = TrainConfig(learning_rate=1e-2, rank=4, seed=1)


def drawn(method, backbone, pair, noise, folder):
    folder.mkdir()
    method.learn(backbone, pair, STEPS, folder / "style.safetensors")
    return method.generate(backbone, pair, folder / "style.safetensors", noise, SAMPLING)[0]


@pytest.mark.parametrize("change", get_args(Change))
def test_a_candidate_is_another_method_and_leaves_all_as_it_was(
    change, backbone, pair, noise, tmp_path
):
    def before():
        return drawn(Acfun(config=CONFIG), backbone, pair, noise, tmp_path / "plain")

    plain = before()
    other = drawn(Candidate(config=CONFIG, change=change), backbone, pair, noise, tmp_path / "new")
    assert not torch.equal(plain, other)
    assert torch.isfinite(other).all()
    tmp_path.joinpath("plain").rename(tmp_path / "kept")
    assert torch.equal(plain, before())


def test_normalised_deviations_do_not_depend_on_a_blocks_scale(backbone, pair):
    x = torch.randn(1, 3, 8, 8)
    with changed("normalised deviations", backbone, pair):
        ours, scaled = (concrete_fusion.channel_statistics(y, "std") for y in (x, 7 * x))
    assert torch.allclose(ours, scaled, atol=1e-4)
    plain, scaled = (concrete_fusion.channel_statistics(y, "std") for y in (x, 7 * x))
    assert not torch.allclose(plain, scaled, atol=1e-4)


def test_parts_by_noise_keep_the_strengths_of_their_row(backbone, pair):
    strengths = PartStrengths(encoder=0.5, middle=0.7, decoder=0.25)
    points = backbone.insert_points("resblock")
    inserts = {block: ConcreteFusion(point.channels) for block, point in points.items()}
    modules = {block: point.module for block, point in points.items()}
    prompt, noisy = backbone.encode_prompt("a face", "", {}), torch.zeros(1, 4, 16, 16)
    seen = []
    with (
        changed("parts by noise", backbone, pair) as parted,
        concrete_fusion.attached(inserts, modules, strengths) as hooks,
        torch.no_grad(),
    ):
        for sigma in (20.0, 0.05, 20.0):
            parted.denoise(noisy, sigma, prompt)
            seen.append({part_of(b): h.strength for b, h in zip(inserts, hooks, strict=True)})
    high = {"encoder": 0.0, "middle": 0.7, "decoder": 0.25}
    low = {"encoder": 0.5, "middle": 0.7, "decoder": 0.0}
    assert seen == [high, low, high]


def test_crops_are_seen_at_low_noise_alone(backbone, pair):
    style, face = torch.zeros(1, 4, 16, 16), torch.ones(1, 4, 16, 16)
    with changed("crops", backbone, pair):
        low, lower, high = (
            training.alignment_batch("staged", style, face, sigma, 0.8, 1.0)
            for sigma in (0.1, 0.1, 50.0)
        )
    assert torch.equal(high.style, style)
    assert torch.equal(low.style, low.latents[:1])
    assert not torch.equal(low.style, style)
    assert not torch.equal(low.style, lower.style)
