"""The prior's parts: they are small, training moves weights, the reader keeps."""

import numpy as np
import pytest
import torch

from evaluation.toy.drawings import draw_set
from evaluation.toy.people import PROPORTIONS
from evaluation.toy.reader import (
    GROUPS,
    Reader,
    identity,
    load_reader,
    save_reader,
    train_reader,
    trust,
)
from evaluation.toy.training.autoencoder import (
    CHANNELS,
    latents_of,
    new_autoencoder,
    pixels_of,
    set_scale,
    stroke_loss,
    train_autoencoder,
    unit_loss,
)
from evaluation.toy.training.denoiser import (
    Material,
    denoiser_errors,
    new_scheduler,
    new_text_encoder,
    new_tokenizer,
    new_unet,
    teach,
)
from evaluation.toy.training.image_encoder import new_image_encoder, train_image_encoder
from evaluation.toy.training.make_prior import loss_weights
from evaluation.toy.training.session import Course


@pytest.fixture(scope="module")
def drawn():
    return draw_set(60, seed=9, workers=1)


class CountedCourse(Course):
    """A lesson that is over after as many looks at its progress as are left."""

    left = 0

    @property
    def progress(self):
        self.left -= 1
        return float(self.left < 0)


@pytest.fixture
def course(tmp_path):
    return CountedCourse("toy", 1.0, 1e-3, False, 0, tmp_path, tmp_path / "log.txt")


def test_parts_fit_into_twelve_megabytes_in_half_precision():
    parts = new_autoencoder(), new_unet(), new_text_encoder(330), new_image_encoder()
    assert 2 * sum(p.numel() for part in parts for p in part.parameters()) < 11_800_000


def test_a_latent_spans_four_pixels_and_eight_channels(drawn):
    model = new_autoencoder()
    assert latents_of(model, drawn.images[:3]).shape == (3, CHANNELS, 16, 16)
    assert model.decode(torch.zeros(2, CHANNELS, 16, 16)).sample.shape == (2, 3, 64, 64)


def test_latents_are_scaled_to_mean_0_and_deviation_1(drawn):
    model = new_autoencoder()
    set_scale(model, drawn.images)
    latents = latents_of(model, drawn.images)
    assert float(latents.mean()) == pytest.approx(0, abs=1e-2)
    assert float(latents.std()) == pytest.approx(1, abs=1e-2)
    assert not torch.allclose(latents, latents_of(model, drawn.images, raw=True))


def test_loss_prefers_misplaced_strokes_to_none():
    rows = torch.sin(torch.arange(64.0) * 2 * torch.pi / 6).view(1, 1, 64, 1).expand(1, 3, 64, 64)
    shifted = rows.roll(1, dims=2)
    assert stroke_loss(rows, rows) == 0
    assert stroke_loss(shifted, rows) < stroke_loss(torch.zeros_like(rows), rows)


def test_unit_loss_is_nought_for_unit_channels():
    latents = torch.randn(64, CHANNELS, 16, 16, generator=torch.Generator().manual_seed(0))
    assert unit_loss(latents) < 1e-3 < unit_loss(2 * latents + 1)


@torch.no_grad()
def loss_of(model, pixels):
    return float(stroke_loss(model.decode(model.encode(pixels).latents).sample, pixels))


def test_autoencoder_learns(drawn, course):
    torch.manual_seed(0)
    model = new_autoencoder()
    pixels = pixels_of(drawn.images[:8])
    before = loss_of(model, pixels)
    course.left = 4
    learner = train_autoencoder(model, drawn.images, course)
    assert loss_of(model, pixels) < before
    assert (learner.steps, learner.samples) == (4, 32)


def test_denoiser_learns_and_returns_an_average(course, drawn, tmp_path):
    torch.manual_seed(0)
    tokenizer = new_tokenizer(tmp_path)
    unet, text_encoder = new_unet(), new_text_encoder(len(tokenizer))
    before = unet.conv_out.weight.clone(), next(text_encoder.parameters()).clone()
    material = Material(new_autoencoder(), tokenizer, 60)
    material.add(drawn)
    course.left = 2
    both, errors = torch.nn.ModuleList([unet, text_encoder]), denoiser_errors(unet, text_encoder)
    learner = teach(both, errors, material, torch.ones(16, 16), course)
    average = learner.average[0]
    assert not torch.equal(average.conv_out.weight, before[0])
    assert not torch.equal(average.conv_out.weight, unet.conv_out.weight)
    assert not torch.equal(next(text_encoder.parameters()), before[1])


def test_unet_looks_at_words_and_at_itself_where_strokes_live():
    names = {name for name, _ in new_unet().named_modules()}
    for block in ("down_blocks.0", "down_blocks.1", "up_blocks.0", "up_blocks.1"):
        for attention in ("attn1", "attn2"):
            assert f"{block}.attentions.0.transformer_blocks.0.{attention}" in names


def test_loss_counts_the_face_and_the_mouth_more():
    weights = loss_weights()
    assert weights.shape == (16, 16)
    assert weights.mean().item() == pytest.approx(1)
    assert weights[0, 0] < weights[6, 6] < weights[12, 8]


def test_schedule_reaches_noise():
    kept = new_scheduler().alphas_cumprod
    assert kept[0] > 0.999
    assert kept[-1] < 1e-4


def test_image_encoder_learns(drawn):
    torch.manual_seed(0)
    model, ids = new_image_encoder(), torch.randint(2, 38, (60, 32))
    before = [parameter.clone() for parameter in model.parameters()]
    share = train_image_encoder(model, new_text_encoder(40), drawn.images, ids, 1, seed=0)
    assert 0 <= share <= 1
    moved = [not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2


def test_reader_learns_reads_and_is_kept(drawn, tmp_path):
    torch.manual_seed(0)
    reader = Reader()
    train_reader(reader, drawn.images, drawn.labels, 3, seed=0)
    save_reader(reader, tmp_path / "reader.safetensors")
    again = load_reader(tmp_path / "reader.safetensors")
    pictures = torch.from_numpy(drawn.images[:4]).float() / 255
    reading, same = reader.eval().read(pictures), again.read(pictures)
    assert list(reading.attributes) == list(GROUPS)
    assert reading.landmarks.shape == (4, 5, 2)
    assert torch.allclose(reading.proportions, same.proportions, atol=1e-2)
    assert identity(reading, reader.trust).shape == (4, 2 + 5 + 2 * 5 + len(PROPORTIONS) + 10)


def test_trust_is_the_squared_correlation(drawn):
    truths = torch.from_numpy(drawn.labels[:, -len(PROPORTIONS) :])
    reading = Reader().read(torch.zeros(60, 64, 64, 3))
    exact = type(reading)(reading.attributes, reading.landmarks, reading.turn, truths * 0.5 + 1)
    assert torch.allclose(trust(exact, truths), torch.ones(len(PROPORTIONS)), atol=1e-4)
    shuffled = truths[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    assert trust(exact, shuffled).mean() < 0.2
    assert np.isfinite(trust(exact, truths).numpy()).all()
