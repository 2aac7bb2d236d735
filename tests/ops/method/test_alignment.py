"""The alignment loss against loops written from the formulas of the paper and of the trial."""

import math
from dataclasses import replace

import pytest
import torch

from acfun_ops.errors import ACFunError
from acfun_ops.method.alignment_loss import (
    ALIGNMENTS,
    alignment_batch,
    alignment_loss,
    match_statistics,
)

STYLE_WEIGHT, FACE_WEIGHT = 0.8, 1.25
SHAPE = (1, 3, 4, 4)
STAGED = ("staged", "drawn")


@pytest.fixture
def latents(generator):
    """Style, face and I_i with means and deviations of their own."""
    drawn = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    return [drawn[0] * 2 + 1, drawn[1] * 0.5 - 1, drawn[2]]


def naive_restyle(face, style):
    """AdaIN: the face normalised per channel, given the style's mean and deviation."""
    result = face.clone()
    for channel in range(face.shape[1]):
        values, target = face[0, channel], style[0, channel]
        deviation, wanted = values.std(correction=0), target.std(correction=0)
        result[0, channel] = (values - values.mean()) / deviation * wanted + target.mean()
    return result


def reading(alignment, latents, sigma):
    """Per input of the step: the input, and what it is pulled to with which weight.

    The last entry of a pull says whether the face mask weights it.
    """
    style, face, imagery = latents
    if alignment == "paired":
        return [
            (style, [(STYLE_WEIGHT, style, False)]),
            (face, [(FACE_WEIGHT, face, True)]),
        ]
    if alignment in STAGED:
        level = math.atan(sigma) / (math.pi / 2)
        lead = 1 / (1 + math.exp(-12 * (level - 0.55)))
        share = STYLE_WEIGHT / FACE_WEIGHT
        between = naive_restyle(face, style)
        if alignment == "drawn":
            shape = 1 / (1 + math.exp(-12 * (level - 0.85)))
            between = shape * between + (1 - shape) * imagery
        restyled = share * between + (1 - share) * face
        return [
            (style, [(2 * STYLE_WEIGHT * (1 - lead), style, False)]),
            (restyled, [(2 * FACE_WEIGHT * (0.25 + 0.75 * lead), restyled, True)]),
        ]
    mean = (STYLE_WEIGHT * style + FACE_WEIGHT * face) / (STYLE_WEIGHT + FACE_WEIGHT)
    shared = imagery if alignment == "imagery" else mean
    # Two draws of noise for one expectation: each counts half.
    pulls = [(STYLE_WEIGHT / 2, style, False), (FACE_WEIGHT / 2, face, True)]
    return [(shared, pulls), (shared, pulls)]


def predicted(clean, noisy, sigma, prediction):
    """What a U-Net would have predicted for this clean latent, element by element."""
    alpha, level = 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
    noise = (noisy - clean) / sigma
    return noise if prediction == "noise" else alpha * noise - level * clean


def naive_colour_loss(target, noisy, output, sigma, prediction):
    """The squared error of a picture's channel means, told as predictions are."""
    total = 0.0
    for channel in range(SHAPE[1]):
        off = 0.0
        for seen, got, wanted in zip(
            *(x[channel].flatten().tolist() for x in (noisy, output, target[0])), strict=True
        ):
            off += predicted(got, seen, sigma, prediction)
            off -= predicted(wanted, seen, sigma, prediction)
        total += (off / math.prod(SHAPE[2:])) ** 2
    return total / SHAPE[1]


def naive_loss(inputs, noises, denoised, sigma, prediction, mask):
    """Eq. 4 as the squared error of predictions (eq. 1), one element at a time."""
    total = 0.0
    mask = torch.ones(1, 1, 4, 4) if mask is None else mask
    for (clean, pulls), noise, output in zip(inputs, noises, denoised, strict=True):
        noisy = clean[0] + sigma * noise
        for weight, target, masked in pulls:
            error = 0.0
            for channel in range(SHAPE[1]):
                for row in range(SHAPE[2]):
                    for column in range(SHAPE[3]):
                        at = (channel, row, column)
                        seen = [float(x[at]) for x in (output, target[0], noisy)]
                        got, wanted = (predicted(x, seen[2], sigma, prediction) for x in seen[:2])
                        share = float(mask[0, 0, row, column]) if masked else 1.0
                        error += share * (got - wanted) ** 2
            total += weight * error / math.prod(SHAPE)
    return total


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("prediction", ["noise", "v"])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 1.3, 9.0])
@pytest.mark.parametrize("masked", [False, True])
def test_loss_equals_the_formula(alignment, prediction, sigma, masked, latents, generator):
    noises, denoised = torch.randn(2, 2, *SHAPE[1:], generator=generator, dtype=torch.float64)
    mask = torch.rand(1, 1, 4, 4, generator=generator, dtype=torch.float64) if masked else None
    level = sigma
    style, face, imagery = latents
    batch = alignment_batch(alignment, style, face, level, STYLE_WEIGHT, FACE_WEIGHT, imagery)
    inputs = reading(alignment, latents, sigma)
    assert torch.allclose(batch.latents, torch.cat([clean for clean, _ in inputs]), atol=1e-5)
    loss = alignment_loss(denoised, batch, level, prediction, mask)
    expected = naive_loss(inputs, noises, denoised, sigma, prediction, mask)
    if alignment in STAGED:
        noisy = inputs[1][0][0] + sigma * noises[1]
        off = naive_colour_loss(inputs[1][0], noisy, denoised[1], sigma, prediction)
        expected += 10 * FACE_WEIGHT * off
    assert float(loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_only_staged_pulls_colours_and_lets_the_noise_stray(alignment, latents):
    style, face, imagery = latents
    batch = alignment_batch(alignment, style, face, 1.1, STYLE_WEIGHT, FACE_WEIGHT, imagery)
    is_staged = alignment in STAGED
    assert (batch.noise_offset > 0) == (sum(batch.colour_weights) > 0) == is_staged


def test_readings_differ(latents, generator):
    style, face, imagery = latents
    denoised = torch.randn(2, *SHAPE[1:], generator=generator, dtype=torch.float64)
    sigma = 1.1
    losses, inputs = set(), set()
    for alignment in ALIGNMENTS:
        batch = alignment_batch(alignment, style, face, sigma, STYLE_WEIGHT, FACE_WEIGHT, imagery)
        losses.add(round(float(alignment_loss(denoised, batch, sigma, "noise")), 6))
        inputs.add(round(float(batch.latents.square().sum()), 6))
    # imagery and blend pull alike; they differ in what is noised.
    assert (len(losses), len(inputs)) == (4, 5)


def test_restyled_face_has_the_style_s_channel_statistics(latents):
    style, face, _ = latents
    restyled = match_statistics(face, style)
    assert torch.allclose(restyled.mean(dim=(2, 3)), style.mean(dim=(2, 3)))
    deviations = restyled.std(dim=(2, 3), correction=0)
    assert torch.allclose(deviations, style.std(dim=(2, 3), correction=0), rtol=1e-4)
    assert torch.allclose(restyled, naive_restyle(face, style), atol=1e-5)


def test_restyled_face_keeps_its_structure(latents):
    style, face, _ = latents
    restyled = match_statistics(face, style)
    for channel in range(SHAPE[1]):
        pair = torch.stack([restyled[0, channel].flatten(), face[0, channel].flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.999


def test_restyling_a_flat_face_is_finite():
    style = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(match_statistics(torch.zeros(SHAPE), style)).all()


def best_answer(alignment, latents, sigma, style_weight):
    """The prediction with the least loss for one shared answer: one step of Newton's method."""
    style, face, imagery = latents
    level = sigma
    batch = alignment_batch(alignment, style, face, level, style_weight, 1.0, imagery)

    def loss(answer):
        shared = answer.reshape(SHAPE).expand(2, -1, -1, -1)
        return alignment_loss(shared, batch, level, "noise")

    start = torch.zeros(math.prod(SHAPE), dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(loss, start)
    curvature = torch.autograd.functional.hessian(loss, start)
    return -torch.linalg.solve(curvature, gradient).reshape(SHAPE)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_raising_style_weight_moves_the_answer_to_the_style(alignment, sigma, latents):
    weights = [0.0, 0.2, 0.8, 2.0, 10.0]
    style, _, imagery = latents
    if alignment == "drawn":
        # Its face becomes the picture between the two, which this one stands for.
        imagery.copy_(style)
    answers = [best_answer(alignment, latents, sigma, weight) for weight in weights]
    apart = [answer - latents[0] for answer in answers]
    if alignment in STAGED:
        # Its face takes on the style's statistics, not its pixels.
        apart = [difference.mean(dim=(2, 3)) for difference in apart]
    distances = [round(float(difference.norm()), 9) for difference in apart]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > distances[1] > distances[-1]


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_raising_style_weight_raises_only_the_style_pull(alignment, latents):
    style, face, imagery = latents
    pulls = []
    for weight in (0.1, 0.5, 1.0, 5.0):
        batch = alignment_batch(alignment, style, face, torch.tensor(0.5), weight, 1.0, imagery)
        pulls.append((sum(batch.style_weights), sum(batch.face_weights)))
    assert [p[0] for p in pulls] == sorted({p[0] for p in pulls})
    assert len({p[1] for p in pulls}) == 1


def test_staged_gives_high_noise_to_the_face_and_low_noise_to_the_style(latents):
    style, face, _ = latents
    batches = [
        alignment_batch("staged", style, face, sigma, 1.0, 1.0)
        for sigma in (0.01, 0.3, 1.0, 3.0, 100.0)
    ]
    style_pulls = [float(batch.style_weights[0]) for batch in batches]
    face_pulls = [float(batch.face_weights[1]) for batch in batches]
    assert style_pulls == sorted(style_pulls, reverse=True)
    assert face_pulls == sorted(face_pulls)
    assert style_pulls[0] == pytest.approx(2, abs=0.02)
    assert style_pulls[-1] == pytest.approx(0, abs=0.02)
    assert face_pulls[0] == pytest.approx(0.5, abs=0.02)
    assert face_pulls[-1] == pytest.approx(2, abs=0.02)


def test_drawn_takes_the_shape_from_the_photo_and_the_strokes_from_what_is_drawn(latents):
    style, face, imagery = latents
    faces = [
        alignment_batch("drawn", style, face, sigma, 1.0, 1.0, imagery).face
        for sigma in (1e-3, 1.0, 3.0, 10.0, 1e3)
    ]
    off_drawn, off_photo = (
        [float((one - target).norm()) for one in faces]
        for target in (imagery, match_statistics(face, style))
    )
    assert off_drawn == sorted(off_drawn)
    assert off_photo == sorted(off_photo, reverse=True)
    assert off_drawn[0] < 0.01 * off_photo[0]
    assert off_photo[-1] < 0.2 * off_drawn[-1]


@pytest.mark.parametrize("style_weight", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("face_weight", [0.8, 2.0])
def test_staged_face_is_restyled_by_the_share_of_the_style(style_weight, face_weight, latents):
    style, face, _ = latents
    batch = alignment_batch("staged", style, face, torch.tensor(1.0), style_weight, face_weight)
    share = style_weight / face_weight
    expected = share * naive_restyle(face, style) + (1 - share) * face
    assert torch.allclose(batch.latents[1:], expected, atol=1e-5)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (1.0, 0.0)])
def test_staged_face_is_never_restyled_beyond_the_style(weights, latents):
    style, face, _ = latents
    batch = alignment_batch("staged", style, face, torch.tensor(1.0), *weights)
    assert torch.equal(batch.face, match_statistics(face, style))


def test_staged_counts_the_colours_of_the_face_more_than_its_details(latents):
    style, face, _ = latents
    sigma = 1.0
    batch = alignment_batch("staged", style, face, sigma, 1.0, 1.0)
    batch = replace(batch, face_weights=torch.zeros(2))
    tinted = batch.latents + torch.tensor([0.0, 0.5]).reshape(2, 1, 1, 1)
    checked = torch.ones(4, 4, dtype=torch.float64)
    checked[::2, ::2] = checked[1::2, 1::2] = -1
    textured = batch.latents + torch.tensor([0.0, 0.5]).reshape(2, 1, 1, 1) * checked
    assert float(alignment_loss(tinted, batch, sigma, "noise")) == pytest.approx(10 * 0.25)
    assert float(alignment_loss(textured, batch, sigma, "noise")) == pytest.approx(0, abs=1e-12)


def test_perfect_answers_cost_nothing_and_worse_ones_do(latents):
    style, face, _ = latents
    sigma = 1.0
    for alignment in ("staged", "paired"):
        batch = alignment_batch(alignment, style, face, sigma, STYLE_WEIGHT, FACE_WEIGHT)
        assert alignment_loss(batch.latents, batch, sigma, "v") < 1e-20
        assert alignment_loss(batch.latents + 0.1, batch, sigma, "v") > 0


def test_mask_ignores_the_face_where_it_is_black(latents):
    style, face, _ = latents
    batch = alignment_batch("paired", style, face, torch.tensor(1.0), 1.0, 1.0)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 2
    for columns, costs in ((slice(2, 4), False), (slice(0, 2), True)):
        denoised = batch.latents.clone()
        denoised[1, :, :, columns] += 1
        loss = alignment_loss(denoised, batch, torch.tensor(1.0), "noise", mask)
        assert (loss > 0) == costs


@pytest.mark.parametrize("alignment", ["imagery", "drawn", "nonsense"])
def test_reading_that_cannot_be_used_is_refused(alignment, latents):
    message = f"'{alignment}' is no reading .* staged, drawn, paired, imagery, blend"
    with pytest.raises(ACFunError, match=message):
        alignment_batch(alignment, *latents[:2], torch.tensor(1.0), 1.0, 1.0)
