"""The one exception, and how an error that means memory is told from others."""

import pytest
import torch

from acfun_ops.errors import ACFunError, is_out_of_memory


def test_a_users_mistake_is_a_value_error():
    assert issubclass(ACFunError, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_errors_of_memory_are_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError(),
        ACFunError("face_image is an empty batch"),
    ],
)
def test_other_errors_are_not_taken_for_memory(error):
    assert not is_out_of_memory(error)
