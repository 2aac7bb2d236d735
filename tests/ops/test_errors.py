"""The one exception, and how an error that means memory is told from others."""

import pytest
import torch

from acfun_ops.errors import ACFunError, is_out_of_memory, library_error


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


LAZY = "Failed to import diffusers.models.vae because of the following error:\nno name 'Cache'"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ModuleNotFoundError("none", name="diffusers.x"),
            'diffusers is not .* "..headless.',
        ),
        (ModuleNotFoundError("none", name="transformers"), 'transformers is not .* install "."$'),
        (
            ImportError("no name 'x'", name="hub.y"),
            "installed hub does not work.* no name 'x'.",
        ),
        (RuntimeError(LAZY), "installed diffusers does not work.* no name 'Cache'. Run: pip"),
    ],
)
def test_libraries_that_are_missing_or_too_old_are_named(error, message):
    with pytest.raises(ACFunError, match=message):
        raise library_error(error)


def test_own_and_other_errors_are_no_librarys():
    assert library_error(ImportError("no name 'x'", name="acfun_ops.style")) is None
    assert library_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
