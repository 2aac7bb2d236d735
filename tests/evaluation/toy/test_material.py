"""Drawings made while a GPU learns are those of the kept set, and more of them with time."""

import multiprocessing
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing

import numpy as np
import pytest
import torch

from evaluation.toy.drawings import SEED, draw_set
from evaluation.toy.training.autoencoder import latents_of, new_autoencoder
from evaluation.toy.training.denoiser import Chunks, Material, new_tokenizer, token_ids


class Drawn:
    """Chunks that are drawn when the test says so."""

    def __init__(self, *chunks):
        self.chunks = list(chunks)

    def collect(self, wait):
        while self.chunks:
            yield self.chunks.pop(0)


def test_growing_material_learns_from_what_is_drawn_so_far(tmp_path):
    torch.manual_seed(0)
    model, tokenizer = new_autoencoder(), new_tokenizer(tmp_path)
    first, second = draw_set(6, seed=9, workers=1), draw_set(10, seed=10, workers=1)
    chunks = Drawn(first)
    growing, kept = Material(model, tokenizer, 16, chunks), Material(model, tokenizer, 6)
    kept.add(first)
    for seed in (1, 2):
        ours = growing.batch(5, torch.Generator().manual_seed(seed))
        theirs = kept.batch(5, torch.Generator().manual_seed(seed))
        assert all(map(torch.equal, ours, theirs))
    chunks.chunks.append(second)
    latents, ids = growing.batch(200, torch.Generator().manual_seed(3))
    assert growing.known == 16
    known = latents_of(model, np.concatenate([first.images, second.images])).half().float()
    rows = [int((latent == known).flatten(1).all(dim=1).nonzero()) for latent in latents]
    assert set(rows) == set(range(16))
    words = token_ids(tokenizer, first.captions + second.captions)
    assert torch.equal(ids, words[rows])


def test_other_processes_draw_the_kept_set_in_its_order():
    with closing(Chunks(3, workers=1)) as chunks:
        (drawn,) = chunks.collect(wait=True)
        assert not list(chunks.collect(wait=False))
    expected = draw_set(3, seed=SEED, workers=1)
    assert np.array_equal(drawn.images, expected.images)
    assert drawn.captions == expected.captions


def test_a_process_that_dies_while_it_draws_is_an_error():
    with (
        pytest.raises(BrokenProcessPool),
        closing(Chunks(3, workers=1)) as chunks,
    ):
        for process in multiprocessing.active_children():
            process.kill()
        list(chunks.collect(wait=True))
