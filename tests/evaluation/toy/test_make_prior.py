"""Lessons on a fresh checkout go on from what was written, and what is written loads."""

import sys

import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file

from acfun_ops.backbones.diffusers_backbone import load_pipeline
from evaluation.toy.drawings import draw_set
from evaluation.toy.training import make_prior


@pytest.fixture
def give(tmp_path, monkeypatch):
    """Give a lesson of one step on a few drawings, in a work folder of that name."""
    drawn = draw_set(30, seed=9, workers=1)
    for name in ("training_drawings", "untaught_drawings"):
        monkeypatch.setattr(make_prior, name, lambda work: drawn)
    monkeypatch.setattr(make_prior, "BATCH", 4)
    monkeypatch.setattr("evaluation.toy.training.image_encoder.BATCH", 4)
    monkeypatch.setattr(make_prior, "IMAGE_ENCODER_STEPS", 1)

    def lesson(stage, work):
        words = [stage, "--minutes", "1e-6", "--work", str(tmp_path / work)]
        monkeypatch.setattr(sys, "argv", ["make_prior", *words, "--out", str(tmp_path / "out")])
        make_prior.main()
        return tmp_path / work

    return lesson


@pytest.fixture
def one_step(monkeypatch):
    """Let each lesson take one step, however short it is."""

    class Course(make_prior.Course):
        looks = 0

        @property
        def progress(self):
            self.looks += 1
            return float(self.looks > 1)

    monkeypatch.setattr(make_prior, "Course", Course)


def weights(kind, folder):
    return kind.from_pretrained(folder).float().state_dict()


def test_lessons_elsewhere_go_on_from_what_was_written(give, one_step, tmp_path):
    for stage in ("autoencoder", "denoiser", "image_encoder", "write"):
        here = give(stage, "here")
    out = tmp_path / "out"
    backbone = load_pipeline(out)
    for part, prefix in make_prior.CLIP_PREFIXES.items():
        assert all(n.startswith(prefix) for n in load_file(out / part / "model.safetensors"))
    assert (out / "tokenizer" / "vocab.json").is_file()
    pictures = backbone.decode_latents(torch.zeros(1, 8, 16, 16))
    assert pictures.shape == (1, 64, 64, 3)
    written = weights(UNet2DConditionModel, out / "unet")
    for name, weight in weights(UNet2DConditionModel, here / "unet").items():
        assert torch.equal(weight.half().float(), written[name])

    earlier = (here / "log.txt").read_text()
    there = give("denoiser", "there")
    log = (there / "log.txt").read_text()
    assert log.startswith(earlier)
    assert "goes on from the weights that were written" in log.removeprefix(earlier)
    taught = weights(UNet2DConditionModel, there / "unet")
    moved = max(float((taught[name] - written[name]).abs().max()) for name in written)
    assert 0 < moved < 1e-2
    give("write", "there")
    assert (out / "log.txt").read_text() == log


def test_a_decoder_lesson_leaves_the_latents_as_they_are(give, one_step, tmp_path):
    for stage in ("autoencoder", "write"):
        give(stage, "here")
    before = weights(AutoencoderTiny, tmp_path / "out" / "vae")
    after = weights(AutoencoderTiny, give("decoder", "there") / "vae")
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(kept for name, kept in same.items() if name.startswith("encoder"))
    assert not all(kept for name, kept in same.items() if name.startswith("decoder"))


def test_the_encoder_is_not_taught_after_the_unet(give, one_step, capsys):
    for stage in ("autoencoder", "denoiser"):
        give(stage, "here")
    with pytest.raises(SystemExit):
        give("autoencoder", "here")
    assert "teach the decoder alone" in capsys.readouterr().err
