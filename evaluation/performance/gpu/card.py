"""The GPU's memory: how much is used, and a smaller card out of a large one."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch

GIB = 2**30


class Card:
    """Counts memory in bytes; on a machine without CUDA all counts are 0 and limits do nothing."""

    def __init__(self) -> None:
        self.is_there = torch.cuda.is_available()
        self._ask_driver = torch.cuda.mem_get_info  # Not what stands for it within `of`.
        self.total = self._ask_driver()[1] if self.is_there else 0

    @property
    def name(self) -> str:
        """Return what the driver calls it."""
        return torch.cuda.get_device_name() if self.is_there else "no GPU"

    def allocated(self) -> int:
        """Return what tensors occupy now."""
        return torch.cuda.memory_allocated() if self.is_there else 0

    def reserved(self) -> int:
        """Return what torch holds now, unused parts included."""
        return torch.cuda.memory_reserved() if self.is_there else 0

    def peak(self) -> int:
        """Return what tensors occupied at most since :meth:`restart`."""
        return torch.cuda.max_memory_allocated() if self.is_there else 0

    def peak_reserved(self) -> int:
        """Return what torch held at most since :meth:`restart`."""
        return torch.cuda.max_memory_reserved() if self.is_there else 0

    def beside_torch(self) -> int:
        """Return what is used beside torch's memory: the driver's, and that of other programs."""
        if not self.is_there:
            return 0
        free, total = self._ask_driver()
        return total - free - self.reserved()

    def restart(self) -> None:
        """Count peaks from here on."""
        if self.is_there:
            torch.cuda.reset_peak_memory_stats()

    def clear(self) -> None:
        """Give back what torch holds and does not use."""
        if self.is_there:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def limit_to(self, size: float) -> None:
        """Let torch hold no more than so many bytes: beyond, it raises its own out of memory."""
        if self.is_there:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(min(1.0, size / self.total))

    def unlimit(self) -> None:
        """Let torch use the whole card again."""
        if self.is_there:
            torch.cuda.set_per_process_memory_fraction(1.0)

    @contextmanager
    def of(self, size: float | None) -> Iterator[None]:
        """Be a card with ``size`` bytes free, for torch and for ComfyUI; None is the whole card."""
        if size is None or not self.is_there:
            yield
            return

        def info(device: object = None) -> tuple[int, int]:
            return max(0, int(size) - self.reserved()), int(size)

        self.limit_to(size)
        try:
            # The driver does not know of the limit, and ComfyUI asks the driver.
            with mock.patch.object(torch.cuda, "mem_get_info", info):
                yield
        finally:
            self.unlimit()
