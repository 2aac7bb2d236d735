"""The GPU's memory: how much is used, and a smaller GPU simulated on a large one."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch

GIB = 2**30


class Gpu:
    """Counts memory in bytes; on a machine without CUDA all counts are 0 and limits do nothing."""

    def __init__(self) -> None:
        self.is_there = torch.cuda.is_available()
        self._driver_info = torch.cuda.mem_get_info  # Not its replacement in `simulate`.
        self.total = self._driver_info()[1] if self.is_there else 0

    def other_bytes(self) -> int:
        """Return what is used next to torch's memory: by the driver and by other programs."""
        free, total = self._driver_info() if self.is_there else (0, 0)
        return total - free - torch.cuda.memory_reserved()

    def reset_peak(self) -> None:
        """Count peaks from here on."""
        if self.is_there:
            torch.cuda.reset_peak_memory_stats()

    def limit_to(self, size: float | None) -> None:
        """Let torch reserve at most so many bytes, beyond which it raises an error; None is all."""
        if self.is_there:
            torch.cuda.empty_cache()
            share = 1.0 if size is None else min(1.0, size / self.total)
            torch.cuda.set_per_process_memory_fraction(share)

    @contextmanager
    def simulate(self, size: float | None) -> Iterator[None]:
        """Simulate a GPU with ``size`` bytes free, for torch and ComfyUI; None is the full GPU."""
        if size is None or not self.is_there:
            yield
            return

        def info(device: object = None) -> tuple[int, int]:
            return max(0, int(size) - torch.cuda.memory_reserved()), int(size)

        self.limit_to(size)
        try:
            # The driver does not know of the limit, and ComfyUI asks the driver.
            with mock.patch.object(torch.cuda, "mem_get_info", info):
                yield
        finally:
            self.limit_to(None)
