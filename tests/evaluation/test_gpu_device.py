"""What is counted on a GPU, here one whose driver is asked in vain."""

import pytest
import torch

from evaluation.performance.gpu.device import GIB, Gpu


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 80 GiB, of which torch holds 5 and others 3."""
    figures = {
        "is_available": lambda: True,
        "mem_get_info": lambda device=None: (72 * GIB, 80 * GIB),
        "memory_reserved": lambda: 5 * GIB,
        "empty_cache": lambda: None,
        "set_per_process_memory_fraction": lambda share: None,
    }
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, figure)
    return Gpu()


def test_a_smaller_gpu_is_told_to_comfyui_and_what_others_hold_stays_the_drivers(gpu):
    assert gpu.other_bytes() == 3 * GIB
    with gpu.simulate(6 * GIB):
        assert torch.cuda.mem_get_info() == (1 * GIB, 6 * GIB)
        assert gpu.other_bytes() == 3 * GIB
