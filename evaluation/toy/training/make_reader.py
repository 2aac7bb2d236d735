"""Makes the reader: ``python -m evaluation.toy.training.make_reader``, some minutes on one core."""

import argparse
import sys
from pathlib import Path

import torch

from ..drawings import SEED, draw_set, training_drawings
from ..people import PROPORTIONS
from ..reader import GROUPS, WEIGHTS, load_reader, save_reader, train_reader, trust

STEPS = 600


def main() -> None:
    """Train the reader on the prior's training set; say what it reads right of fresh drawings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/nano2"))
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    drawn = training_drawings(options.work)
    torch.manual_seed(SEED)
    # A lesson like the prior's: the last reader knows faces already.
    reader = load_reader().train()
    train_reader(reader, drawn.images, drawn.labels, STEPS, SEED)
    reader.eval()
    fresh = draw_set(1000, SEED + 7)
    reading = reader.read(torch.from_numpy(fresh.images).float() / 255)
    reader.trust.copy_(trust(reading, torch.from_numpy(fresh.labels[:, -len(PROPORTIONS) :])))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_reader(reader, options.out)
    for name, value in zip(PROPORTIONS, reader.trust.tolist(), strict=True):
        sys.stdout.write(f"{name}: r2 {value:.2f}\n")
    for number, group in enumerate(GROUPS):
        right = reading.attributes[group].argmax(dim=1) == torch.from_numpy(fresh.labels[:, number])
        sys.stdout.write(f"{group}: {float(right.float().mean()):.3f}\n")


if __name__ == "__main__":
    main()
