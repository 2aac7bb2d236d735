"""A transformer learns from the toy's drawings, stops and goes on; its gate draws with it."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from acfun_ops.method.alignment_loss import SETTINGS
from acfun_ops.style.style_file import load_style
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.events import TrainImages, WarningEvent
from acfun_ops.training.fit import fit
from acfun_ops.training.training_images import prepare_images
from evaluation import runs
from evaluation import transformer_benchmark as benchmark
from evaluation.benchmark import Sampling, Task, rows_of
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


@pytest.fixture(scope="module")
def bench(state):
    return benchmark.open_bench(state, 1)


def test_a_style_is_learnt_and_drawn_on_it_by_the_rows_of_the_table(bench, tmp_path):
    rows = rows_of(benchmark.sections(None))
    figures = {figure.name for figure in bench.figures}
    assert {one.figure for one in benchmark.sections(None)[0].expectations} <= figures
    assert [row.method.parts for row in rows[1:]] == [
        ("abstract",),
        ("encoder", "decoder"),
        ("abstract", "decoder"),
        ("abstract", "encoder"),
    ]
    row = replace(rows[0], steps=2, sampling=Sampling(steps=2))
    learnt, _ = runs.learn_row(bench, row, 0, tmp_path)
    assert load_style(learnt).concrete.keys() == {"layers.0"}
    pair, noise = bench.pairs[0], runs.pair_noise(bench, 0, 1)
    task = Task(bench.backbone, pair, learnt, noise, row.sampling)
    styled, unstyled = (row.method.draw(task, pair.prompt, blocks) for blocks in (None, ()))
    assert not torch.equal(styled, unstyled)


def test_its_own_attention_redraws_the_face(bench):
    events, pair = [], bench.pairs[0]
    config = TrainConfig(steps=1, alignment="drawn", preview_every=0)
    images = TrainImages(style=pair.style[None], face=pair.face[None])
    settings = replace(SETTINGS, redrawing=replace(SETTINGS.redrawing, steps=2))
    prepared = prepare_images(bench.backbone, images, config, settings)
    result = fit(bench.backbone, prepared, config, lambda event: bool(events.append(event)))
    assert not any(isinstance(event, WarningEvent) for event in events)
    redrawn = result.state.kept["redrawn"]
    assert not torch.allclose(redrawn, bench.backbone.encode_pictures(pair.face[None]), atol=0.1)


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
