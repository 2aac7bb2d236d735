"""A small random pipeline and a pair of pictures for the evaluation's tests."""

import os
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))
# The models here are too small to share among threads.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_pipeline import write_pipeline

    return write_pipeline(tmp_path_factory.mktemp("model") / "tiny", "epsilon")


@pytest.fixture(scope="session")
def backbone(pipeline_folder: Path):
    from acfun_ops.backbones.diffusers_backbone import load_pipeline

    return load_pipeline(pipeline_folder)


@pytest.fixture(scope="session")
def pictures_folder() -> Path:
    """Photos in ``faces``, paintings in ``styles``; at $ACFUN_PICTURES or beside the checkout."""
    beside = HERE.parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("ACFUN_PICTURES", beside))
    if not (folder / "faces").is_dir():
        pytest.skip("photos and paintings are missing: set ACFUN_PICTURES to their folder")
    return folder


@pytest.fixture
def pair():
    from quality_pairs import drawn_pair

    return drawn_pair(0)


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn((2, 4, 16, 16), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def task(backbone, noise):
    """Where to sample: no pair, as the tests name their own prompts."""
    from evaluation.benchmark import Sampling, Task

    return Task(backbone, None, None, noise, Sampling(steps=4, guidance=2.0))


@pytest.fixture(scope="session")
def drawn():
    """Return the first drawings of the training set."""
    from evaluation.toy.drawings import SEED, draw_chunk
    from evaluation.toy.styles import TEXTURES

    return draw_chunk(0, 24, SEED, TEXTURES)


@pytest.fixture
def few_drawings(monkeypatch: pytest.MonkeyPatch, drawn):
    """Let what is taught once see a few drawings, in small batches, not thousands."""
    from evaluation.methods import feed_forward, instantstyle, pretraining

    for module in (instantstyle, feed_forward):
        monkeypatch.setattr(module, "load_first_drawings", lambda folder: drawn)
        monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(pretraining, "WARM_UP", 1)
    monkeypatch.setattr(pretraining, "TRIAL_STEPS", 1)
    monkeypatch.setattr(instantstyle, "TRIAL_PAIRS", 1)
    return drawn
