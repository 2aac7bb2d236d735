"""The feed-forward network: it learns, takes patches from anywhere, and its losses mean it."""

import pytest
import torch

from acfun_ops.images import to_squares
from evaluation.methods import feed_forward
from evaluation.methods.feed_forward import (
    PatchTransfer,
    PatchTransferPeer,
    features,
    patch_loss,
    statistics_loss,
    transfer_loss,
)
from evaluation.methods.peers import encode_square


def squares_of(backbone, images):
    return to_squares(torch.from_numpy(images).float() / 255, backbone.native_side, "drawings")


def test_transfer_learns_from_photos_and_paintings(
    backbone, pair, noise, tmp_path, few_drawings, monkeypatch
):
    seen = []

    def watched(backbone, network, content, style):
        seen.append((content, style))
        return transfer_loss(backbone, network, content, style)

    monkeypatch.setattr(feed_forward, "transfer_loss", watched)
    drawn = few_drawings
    PatchTransferPeer().learn(backbone, pair, 2, tmp_path / "network.safetensors")
    squares = squares_of(backbone, drawn.images)
    for number, kind in enumerate(("a photo", "")):
        for one in seen[0][number]:
            at = int((squares - one).abs().sum(dim=(1, 2, 3)).argmin())
            assert drawn.labels[at, feed_forward.PAINTED] == (kind != "a photo")


def test_transfers_loss_falls_and_its_gradient_reaches_the_network_alone(backbone, few_drawings):
    torch.manual_seed(0)
    network = PatchTransfer(backbone.unet.config.in_channels)
    content, style = (squares_of(backbone, few_drawings.images[n : n + 4]) for n in (0, 4))
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = transfer_loss(backbone, network, content, style)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.98 * losses[0]
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in backbone.vae.parameters())


def test_transfer_takes_patches_from_wherever_they_stand(backbone):
    torch.manual_seed(0)
    network = PatchTransfer(4).layers[0]
    content, style = torch.randn(1, 64, 6, 6), torch.randn(1, 64, 6, 6)
    moved = style.flatten(2)[..., torch.randperm(36)].unflatten(2, (6, 6))
    assert torch.allclose(network(content, style), network(content, moved), atol=1e-5)
    assert not torch.allclose(network(content, style), network(content, style + 1), atol=1e-2)


def test_transfer_can_draw_strokes_on_an_even_area():
    torch.manual_seed(0)
    network, even = PatchTransfer(4), torch.zeros(1, 4, 32, 32)
    drawn = network(even, torch.randn(1, 4, 12, 12))
    assert drawn.shape == even.shape
    # Away from the padding, which tells places apart as well.
    assert drawn[..., 12:20, 12:20].std(dim=(2, 3)).min() > 1e-3


def test_losses_are_nought_for_a_picture_and_itself(backbone, pair):
    latent = encode_square(backbone, pair.style)
    ours, theirs = latent, torch.roll(latent, 3, dims=3)
    assert statistics_loss(ours, ours) == patch_loss(ours, ours) == 0
    assert float(statistics_loss(ours, theirs)) == pytest.approx(0, abs=1e-6)
    assert statistics_loss(ours, 2 * ours) > 0.1 < patch_loss(ours, ours.flip(1))


def test_features_are_of_every_size_and_none_is_the_latents(backbone):
    seen = features(backbone, torch.randn(1, 3, 32, 32))
    sides = [one.shape[-1] for one in seen]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == 32
    assert sides[-1] == 16
