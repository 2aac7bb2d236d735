"""The prior's parts: the encoder whitens exactly, training moves weights, the reader keeps."""

import numpy as np
import pytest
import torch

from benchmarks.nano import reader as reader_module
from benchmarks.nano.autoencoder import (
    COMPONENTS,
    component_deviations,
    new_autoencoder,
    pixels_of,
    set_encoder,
    train_decoder,
)
from benchmarks.nano.denoiser import (
    Lesson,
    new_scheduler,
    new_text_encoder,
    new_unet,
    train_denoiser,
)
from benchmarks.nano.drawings import draw_set
from benchmarks.nano.image_encoder import new_image_encoder, train_image_encoder
from benchmarks.nano.labels import GROUPS
from benchmarks.nano.make_prior import loss_weights
from benchmarks.nano.people import PROPORTIONS
from benchmarks.nano.reader import Reader, identity, load_reader, save_reader, train_reader, trust


@pytest.fixture(scope="module")
def drawn():
    return draw_set(60, seed=9, workers=1)


@pytest.fixture(scope="module")
def autoencoder(drawn):
    torch.manual_seed(0)
    model = new_autoencoder()
    assert 0.9 < set_encoder(model, drawn.pictures) < 1
    return model


def test_encoder_whitens_patches(autoencoder, drawn):
    with torch.no_grad():
        latents = autoencoder.encode(pixels_of(drawn.pictures)).latent
    assert latents.shape == (60, COMPONENTS, 8, 8)
    values = latents.permute(0, 2, 3, 1).flatten(0, 2).double()
    assert torch.allclose(
        torch.cov(values.T), torch.eye(COMPONENTS, dtype=torch.float64), atol=1e-3
    )
    assert values.mean(dim=0).abs().max() < 1e-3


def test_encoder_sees_each_patch_alone(autoencoder, drawn):
    pixels = pixels_of(drawn.pictures[:1])
    other = pixels.clone()
    other[..., 16:24, 24:32] = 0
    with torch.no_grad():
        change = (autoencoder.encode(pixels).latent - autoencoder.encode(other).latent).abs()
    changed = change.amax(dim=(0, 1)) > 1e-4
    assert changed.nonzero().tolist() == [[2, 3]]


def test_deviations_are_what_whitening_took_away(autoencoder):
    deviations = component_deviations(autoencoder)
    assert deviations.shape == (COMPONENTS,)
    assert (deviations.diff() <= 1e-4).all()
    assert deviations[0] > 10 * deviations[-1]


def test_loss_counts_strong_components_the_face_and_the_mouth_more(autoencoder):
    weights = loss_weights(autoencoder, 4.0)
    assert weights.shape == (COMPONENTS, 8, 8)
    assert weights.mean().item() == pytest.approx(1)
    assert (weights.diff(dim=0) <= 1e-4).all()
    corner, eyes, mouth = weights[0, 0, 0], weights[0, 3, 3], weights[0, 5, 4]
    assert eyes / corner == pytest.approx(3)
    assert mouth / corner == pytest.approx(12)


def test_decoder_learns(drawn):
    torch.manual_seed(0)
    model = new_autoencoder()
    set_encoder(model, drawn.pictures)
    short = train_decoder(model, drawn.pictures, 2, seed=0)
    assert train_decoder(model, drawn.pictures, 12, seed=0) < short


def test_denoiser_learns_and_returns_an_average(tmp_path):
    torch.manual_seed(0)
    unet, text_encoder = new_unet(), new_text_encoder(40)
    before = unet.conv_out.weight.clone()
    lesson = Lesson(
        latents=torch.randn(8, COMPONENTS, 8, 8),
        ids=torch.full((8, 32), 39),
        weights=torch.ones(COMPONENTS, 8, 8),
        steps=2,
        horizon=2,
        batch=4,
        learning_rate=1e-3,
        seed=0,
        log=tmp_path / "log.txt",
    )
    average, _ = train_denoiser(unet, text_encoder, lesson)
    assert not torch.equal(average.conv_out.weight, before)
    assert not torch.equal(average.conv_out.weight, unet.conv_out.weight)


def test_schedule_reaches_noise():
    kept = new_scheduler().alphas_cumprod
    assert kept[0] > 0.999
    assert kept[-1] < 1e-4


def test_image_encoder_learns(drawn):
    torch.manual_seed(0)
    model, ids = new_image_encoder(), torch.randint(2, 38, (60, 32))
    before = [parameter.clone() for parameter in model.parameters()]
    share = train_image_encoder(model, new_text_encoder(40), drawn.pictures, ids, 1, seed=0)
    assert 0 <= share <= 1
    moved = [not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2


def test_reader_learns_reads_and_is_kept(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(reader_module, "WEIGHTS", tmp_path / "reader.safetensors")
    torch.manual_seed(0)
    reader = Reader()
    train_reader(reader, drawn.pictures, drawn.labels, 3, seed=0)
    save_reader(reader)
    pictures = torch.from_numpy(drawn.pictures[:4]).float() / 255
    reading, again = reader.eval().read(pictures), load_reader().read(pictures)
    assert list(reading.attributes) == list(GROUPS)
    assert reading.landmarks.shape == (4, 5, 2)
    assert torch.allclose(reading.proportions, again.proportions, atol=1e-2)
    assert identity(reading, reader.trust).shape == (4, 2 + 5 + 2 * 5 + len(PROPORTIONS) + 10)


def test_trust_is_the_squared_correlation(drawn):
    truths = torch.from_numpy(drawn.labels[:, -len(PROPORTIONS) :])
    reading = Reader().read(torch.zeros(60, 64, 64, 3))
    exact = type(reading)(reading.attributes, reading.landmarks, reading.turn, truths * 0.5 + 1)
    assert torch.allclose(trust(exact, truths), torch.ones(len(PROPORTIONS)), atol=1e-4)
    shuffled = truths[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    assert trust(exact, shuffled).mean() < 0.2
    assert np.isfinite(trust(exact, truths).numpy()).all()
