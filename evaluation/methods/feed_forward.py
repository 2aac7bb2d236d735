"""The feed-forward peer: one network, taught once, that redraws any photo in any style."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.images import prepare_pictures
from evaluation.toy.reader import GROUPS

from ..benchmark import LearnsOnce, Pair, Sampling
from .pretraining import Teaching, first_drawings, teach
from .sampling import encode_square
from .training import read_tensors, write_tensors
from .transfer_net import PatchTransfer, transfer_loss

BATCH = 8
PAINTED = list(GROUPS).index("medium")


@dataclass(frozen=True, kw_only=True)
class PatchTransferPeer(LearnsOnce):
    """Stands for AesPA-Net and StyTr2 as what it is: see ``transfer_net``.

    Taught on photos and paintings of the training set. It reads no prompt, and the samples of a
    pair are one picture.
    """

    learning_rate: float = 1e-3
    seed: int = 0

    def training_key(self) -> "PatchTransferPeer":
        """See Method."""
        return self

    def prepare(self, folder: Path, workers: int) -> None:
        """See LearnsOnce."""
        first_drawings(folder, workers=workers)

    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """See Method; every pair gives the same."""
        drawn = first_drawings(path.parent)
        is_painting = drawn.labels[:, PAINTED] > 0
        sets = [np.flatnonzero(~is_painting), np.flatnonzero(is_painting)]
        network = _network(backbone, self.seed)

        def loss(generator: torch.Generator) -> Tensor:
            content, style = (
                _squares(backbone, drawn.images[_chosen(numbers, generator)]) for numbers in sets
            )
            return transfer_loss(backbone, network, content, style)

        teaching = Teaching(steps, self.learning_rate, self.seed)
        teach(list(network.parameters()), loss, teaching, path)
        write_tensors(path, network=network.state_dict())

    @torch.no_grad()
    def generate(
        self,
        backbone: DiffusersBackbone,
        pair: Pair,
        learnt: Path,
        noise: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor]:
        """See Method."""
        network = _network(backbone, self.seed)
        network.load_state_dict(read_tensors(learnt, backbone.device)["network"])
        face, style = (encode_square(backbone, picture) for picture in (pair.face, pair.style))
        pictures = backbone.decode_latents(network(face, style)).expand(len(noise), -1, -1, -1)
        return pictures, pictures


def _network(backbone: DiffusersBackbone, seed: int) -> PatchTransfer:
    with torch.random.fork_rng(devices=[]):  # torch's layers draw from its global generator
        torch.manual_seed(seed)
        network = PatchTransfer(int(backbone.unet.config.in_channels))
    return network.to(backbone.device)


def _chosen(numbers: np.ndarray, generator: torch.Generator) -> np.ndarray:
    return numbers[torch.randint(len(numbers), (BATCH,), generator=generator).numpy()]


def _squares(backbone: DiffusersBackbone, pictures: np.ndarray) -> Tensor:
    return prepare_pictures(
        torch.from_numpy(pictures).float() / 255, backbone.native_side, "drawings"
    )
