"""The reader: a small network that reads attributes, landmarks and proportions off an image."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from .people import GENDERS, HAIR_COLORS, HAIR_LENGTHS, PROPORTIONS, Person, Pose
from .portraits import Portrait

BATCH = 96
WEIGHTS = Path(__file__).parent / "reader.safetensors"
# Each attribute group with its words; a group's label is the number of its word.
GROUPS: dict[str, tuple[str, ...]] = {
    "gender": GENDERS,
    "hair_color": HAIR_COLORS,
    "hair_length": HAIR_LENGTHS,
    "glasses": ("no", "yes"),
    "beard": ("no", "yes"),
    "hat": ("no", "yes"),
    "smile": ("no", "yes"),
    "medium": ("photo", "painting"),
}
LANDMARKS = ("left_eye", "right_eye", "nose", "mouth", "chin")
MEASURES = (*(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"), "turn", *PROPORTIONS)
SIZES = [len(words) for words in GROUPS.values()]


def attributes_of(person: Person) -> dict[str, int]:
    """Return each attribute group's label, but for the medium."""
    return {
        group: words.index(getattr(person, group))
        if isinstance(getattr(person, group), str)
        else int(getattr(person, group))
        for group, words in GROUPS.items()
        if group != "medium"
    }


def label_row(person: Person, pose: Pose, portrait: Portrait, is_painting: bool) -> np.ndarray:
    """Return ``(groups + measures,)``: group labels, then measures of about unit size."""
    places = (np.array(list(portrait.landmarks.values()), np.float32).ravel() - 0.5) * 4
    groups = [*attributes_of(person).values(), is_painting]
    return np.array([*groups, *places, pose.turn, *person.proportions], np.float32)


@dataclass(frozen=True)
class Reading:
    """What is seen in ``n`` pictures.

    attributes: group to probabilities ``(n, words)``. landmarks: ``(n, 5, 2)`` in [0, 1].
    turn: ``(n,)`` in about [-1, 1]. proportions: ``(n, 15)`` in about [-1, 1].
    """

    attributes: dict[str, Tensor]
    landmarks: Tensor
    turn: Tensor
    proportions: Tensor


class Reader(nn.Module):
    """A convolutional network over 64 x 64 pictures. trust: see :func:`trust`."""

    trust: Tensor

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.GroupNorm(8, after),
                nn.ReLU(),
                nn.Conv2d(after, after, 3, padding=1),
                nn.GroupNorm(8, after),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.hidden = nn.Linear(128 * 16, 256)
        self.groups = nn.Linear(256, sum(SIZES))
        self.measures = nn.Linear(256, len(MEASURES))
        self.register_buffer("trust", torch.ones(len(PROPORTIONS)))

    def forward(self, pixels: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return logits of each group and the measures of pixels ``(n, 3, 64, 64)`` in [-1, 1]."""
        hidden = F.relu(self.hidden(self.layers(pixels).flatten(1)))
        return self.groups(hidden).split(SIZES, dim=1), self.measures(hidden)

    @torch.no_grad()
    def read(self, pictures: Tensor) -> Reading:
        """Read pictures ``(n, 64, 64, 3)`` in [0, 1]."""
        groups, measures = self(pictures.permute(0, 3, 1, 2) * 2 - 1)
        places = 2 * len(LANDMARKS)
        return Reading(
            dict(zip(GROUPS, (logits.softmax(dim=1) for logits in groups), strict=True)),
            measures[:, :places].unflatten(1, (-1, 2)) / 4 + 0.5,
            measures[:, places],
            measures[:, places + 1 :],
        )


def load_reader(path: Path = WEIGHTS) -> Reader:
    """Return a trained reader."""
    reader = Reader()
    reader.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return reader.eval()


def save_reader(reader: Reader, path: Path) -> None:
    """Write the reader in half precision."""
    save_file(
        {name: tensor.half().contiguous() for name, tensor in reader.state_dict().items()}, path
    )


def train_reader(
    reader: Reader, pictures: np.ndarray, labels: np.ndarray, steps: int, seed: int
) -> None:
    """Train on ``(n, 64, 64, 3)`` in uint8 and label rows, blurred, noisy and tinted at random."""
    generator = torch.Generator().manual_seed(seed)
    reader.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    truths = torch.from_numpy(labels)
    for _ in tqdm(range(steps), "reader", mininterval=20):
        chosen = torch.randint(len(pictures), (BATCH,), generator=generator)
        pixels = torch.from_numpy(pictures[chosen.numpy()]).permute(0, 3, 1, 2).float() / 127.5 - 1
        groups, measures = reader(degrade(pixels, generator))
        truth = truths[chosen]
        loss = 3 * F.mse_loss(measures, truth[:, len(GROUPS) :])
        for number, logits in enumerate(groups):
            loss = loss + F.cross_entropy(logits, truth[:, number].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def degrade(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Return pixels as a prior may draw them: half a batch blurred, all a little noisy."""
    half = len(pixels) // 2
    soft = F.avg_pool2d(F.pad(pixels[:half], (1, 1, 1, 1), mode="replicate"), 3, 1)
    mix = torch.rand((half, 1, 1, 1), generator=generator)
    pixels = torch.cat([pixels[:half].lerp(soft, mix), pixels[half:]])
    strength = 0.1 * torch.rand((len(pixels), 1, 1, 1), generator=generator)
    noisy = pixels + strength * torch.randn(pixels.shape, generator=generator)
    gain = 1 + 0.2 * (torch.rand((len(pixels), 3, 1, 1), generator=generator) - 0.5)
    return (noisy * gain).clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def trust(reading: Reading, truths: Tensor) -> Tensor:
    """Return how well each proportion ``(15,)`` is read: its squared correlation with the truth."""
    both = torch.stack([reading.proportions, truths])
    centred = both - both.mean(dim=1, keepdim=True)
    covariance = (centred[0] * centred[1]).mean(dim=0)
    scale = (centred.square().mean(dim=1).prod(dim=0)).sqrt()
    return (covariance / scale).clamp(min=0).square()


def identity(reading: Reading, trust: Tensor) -> Tensor:
    """Return what tells people apart ``(n, d)``: attributes, trusted proportions, face shape."""
    attributes = [p for group, p in reading.attributes.items() if group != "medium"]
    centred = reading.landmarks - reading.landmarks.mean(dim=1, keepdim=True)
    return torch.cat([*attributes, trust * reading.proportions, 6 * centred.flatten(1)], dim=1)
