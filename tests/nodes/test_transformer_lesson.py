"""A transformer learns from the toy's drawings, stops and goes on; its gate draws with it."""

from __future__ import annotations

import sys

import pytest
import torch

from evaluation.toy import PRIOR
from evaluation.toy.drawings import draw_set
from evaluation.toy.gate import transformer as gate
from evaluation.toy.gate.measures import sample
from evaluation.toy.training import make_prior, session
from evaluation.toy.training import transformer as lesson

BATCH, STEPS = 8, 8


@pytest.fixture(scope="module")
def drawn():
    return draw_set(16, seed=9, workers=1)


@pytest.fixture(scope="module")
def state(drawn, tmp_path_factory):
    """Give two lessons of some steps on a few drawings; return the state that they leave."""

    class Course(make_prior.Course):
        looks = 0

        @property
        def progress(self):
            self.looks += 1
            return float(self.looks > STEPS)

    work = tmp_path_factory.mktemp("lesson")
    words = ["transformer", "--batch", str(BATCH), "--work", str(work)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_prior, "training_drawings", lambda work: drawn)
        patch.setattr(make_prior, "Course", Course)
        patch.setattr(session, "WARM_UP", 1)
        patch.setitem(lesson.SETTINGS, "n_layers", 1)
        patch.setattr(sys, "argv", ["make_prior", *words])
        make_prior.main()
        make_prior.main()
        yield work / "transformer.pt"


@pytest.fixture(scope="module")
def backbone(state):
    return gate.TransformerBackbone(PRIOR, state)


@torch.no_grad()
def test_it_learns_along_the_flow(backbone, drawn):
    clean = backbone.encode_pictures(torch.from_numpy(drawn.images) / 255)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy, context = clean.lerp(noise, 0.75), backbone.encode_prompt("a photo", "S*", {})
    tokens = context.tokens.expand(len(noisy), -1, -1)
    with lesson.plain_kernels(backbone.network):
        velocity = backbone.network(noisy, torch.full((16,), 0.75), tokens, tokens.shape[1])
    denoised = backbone.denoise(clean + 3 * noise, 3.0, context)
    torch.testing.assert_close(denoised, noisy - 0.75 * velocity)
    # Untaught it returns what it is given.
    assert (denoised - clean).square().mean() < 0.9 * (noisy - clean).square().mean()


def test_the_next_lesson_goes_on(state):
    assert f", {BATCH * STEPS} samples seen before" in (state.parent / "log.txt").read_text()
    assert torch.load(state, weights_only=True)["samples"] == 2 * BATCH * STEPS


@pytest.mark.parametrize(("read", "off", "missed"), [(0.9, 1.5, 0), (0.89, 1.5, 1), (0.9, 1.51, 1)])
def test_the_gate_fails_if_a_row_is_missed(state, monkeypatch, capsys, read, off, missed):
    def draw(backbone, reader):
        pictures = sample(backbone, "a photo", torch.Generator().manual_seed(0))
        return {"a photo": pictures}, {"hat": read, "beard": 1.0}

    monkeypatch.setattr("evaluation.toy.gate.measures.STEPS", 1)
    monkeypatch.setattr(gate, "sample_prompts", draw)
    monkeypatch.setattr(gate, "stroke_ratios", lambda _: {"a sketch": {"ratio": off}})
    monkeypatch.setattr(sys, "argv", ["gate", "--state", str(state)])
    assert gate.main() == missed
    assert f'"hat": {read}' in capsys.readouterr().out
    assert state.with_suffix(".jpg").is_file()
