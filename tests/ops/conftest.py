"""Makes property tests repeatable, and gives the command line's tests what they share."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

if TYPE_CHECKING:
    from headless_files import CommandLine

settings.register_profile("acfun", max_examples=60, deadline=None, derandomize=True, database=None)
settings.register_profile("thorough", max_examples=100_000, deadline=None, database=None)
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


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small diffusers pipeline."""
    from tiny_pipeline import write_pipeline

    return write_pipeline(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def line(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> "CommandLine":
    """The command line on that pipeline and a pair of pictures."""
    from headless_files import CommandLine

    return CommandLine(tiny_model, tmp_path, capsys)


@pytest.fixture(scope="session")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A style that the command line has trained, for commands that only read it."""
    from headless_files import QUICK, write_random_picture

    from acfun_ops.__main__ import main

    folder = tmp_path_factory.mktemp("trained")
    style, face = (write_random_picture(folder / f"{n}.png", n) for n in (1, 2))
    out = folder / "my.safetensors"
    files = ["--model", tiny_model, "--style-image", style, "--face-image", face, "--out", out]
    assert main(["train", *map(str, files), *QUICK]) == 0
    return out


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the pipeline, to be damaged."""
    return shutil.copytree(tiny_model, tmp_path / "pipeline")
