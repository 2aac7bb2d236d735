"""Makes the tiny models of this folder importable, and property tests repeatable."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

sys.path.append(str(Path(__file__).resolve().parent))
settings.register_profile("acfun", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("acfun")
# The models here are too small to share among threads.
torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def style_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for damaged styles, shared because property tests write hundreds."""
    return tmp_path_factory.mktemp("damage") / "my style.safetensors"
