"""The prior that ships: small enough, loads as any pipeline does, and draws what it is asked."""

import json

import pytest
import torch
from safetensors import safe_open

from acfun_ops.backbones.diffusers_backbone import load_pipeline
from evaluation.toy.gate import measures
from evaluation.toy.gate.measures import sample
from evaluation.toy.reader import load_reader
from evaluation.toy.training.make_prior import CLIP_PREFIXES
from evaluation.toy_benchmark import PRIOR

MEGABYTES = 12


@pytest.fixture(scope="module")
def backbone():
    return load_pipeline(PRIOR)


def test_prior_is_small_and_in_half_precision():
    files = [path for path in PRIOR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MEGABYTES * 1_000_000
    weights = {path.suffix for path in files} & {".safetensors", ".bin", ".ckpt", ".pt"}
    assert weights == {".safetensors"}
    log = (PRIOR / "log.txt").read_text(encoding="utf-8")
    assert "threads" in log
    assert "samples" in log


def test_figures_in_results_are_of_these_weights(backbone):
    assert backbone.fingerprint.startswith("b9de5e781c57d4352fa3d25211397f26")


@pytest.mark.parametrize(("part", "prefix"), CLIP_PREFIXES.items())
def test_prior_has_the_layout_that_transformers_4_reads(part, prefix):
    with safe_open(PRIOR / part / "model.safetensors", "pt") as file:
        assert all(name.startswith(prefix) for name in file.keys())  # noqa: SIM118
    fast = json.loads((PRIOR / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    slow = json.loads((PRIOR / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    assert fast["model"]["vocab"] == slow
    merges = (PRIOR / "tokenizer" / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert [" ".join(pair) for pair in fast["model"]["merges"]] == merges


def test_prior_draws_hair_of_the_colour_it_is_asked_for(backbone):
    reader = load_reader()
    for number, color in enumerate(("black", "blond", "red")):
        generator = torch.Generator().manual_seed(number)
        prompt = f"a photo of a woman with long {color} hair"
        pictures = sample(backbone, prompt, generator)
        read = reader.read(pictures).attributes["hair_color"].mean(dim=0).argmax()
        assert ("black", "brown", "blond", "red", "gray")[int(read)] == color


def test_prior_draws_the_same_from_the_same_noise(backbone, monkeypatch):
    monkeypatch.setattr(measures, "STEPS", 4)
    pictures = [
        sample(backbone, "a photo of a man", torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])


def test_prior_passes_every_row_of_its_gate():
    figures = json.loads((PRIOR.parent / "gate.json").read_text(encoding="utf-8"))
    assert figures["passed"]
    assert all(row["passed"] for row in figures["rows"].values())
