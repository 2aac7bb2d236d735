"""The insert folded for drawing: the same function, in half the operations."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from acfun_ops.errors import ACFunError
from acfun_ops.method.concrete_fusion import ConcreteFusion, FoldedFusion
from acfun_ops.method.injection import BlockMask

# What release 0.1.0 did: 18 operations, converting included.
OPERATIONS_BEFORE = 18


class Counter(TorchDispatchMode):
    """Notes every operation on tensors."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.__name__)
        return function(*args, **kwargs or {})


@pytest.fixture(params=["std", "mean_std"])
def insert(request):
    insert = ConcreteFusion(6, 4, request.param)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in insert.parameters():
            parameter.normal_(generator=generator)
    return insert.requires_grad_(False)


@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (3, 6, 9)])
@pytest.mark.parametrize("strength", [-1.0, 0.0, 0.7, 1.0, 3.0])
def test_folded_insert_is_the_same_function(insert, shape, strength):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    folded = FoldedFusion(insert, strength)(x)
    assert torch.allclose(folded, insert(x, strength), atol=1e-4)
    assert strength == 0 or not torch.allclose(folded, insert(x, strength + 0.5), atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_folded_insert_keeps_the_dtype(insert, dtype):
    x = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(2)).to(dtype)
    folded = FoldedFusion(insert)(x)
    assert folded.dtype == dtype
    assert torch.allclose(folded.float(), insert(x).float(), atol=0.1, rtol=0.05)


def test_folded_untrained_insert_returns_its_input():
    x = torch.randn(2, 6, 5, 4)
    assert torch.equal(FoldedFusion(ConcreteFusion(6, 4), 2.0)(x), x)


def test_folded_insert_keeps_nothing_of_the_insert_itself(insert):
    x, folded = torch.ones(1, 6, 5, 4), FoldedFusion(insert)
    before = folded(x)
    for parameter in insert.parameters():
        parameter.zero_()
    assert torch.equal(folded(x), before)


def test_folded_insert_hands_gradients_through(insert):
    x = torch.randn(1, 6, 5, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    gradients = [
        torch.autograd.grad(f(x).square().sum(), x)[0] for f in (insert, FoldedFusion(insert))
    ]
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-3)


def test_folded_insert_refuses_other_channels(insert):
    with pytest.raises(ACFunError, match="6 channels wide, the block 5"):
        FoldedFusion(insert)(torch.zeros(1, 5, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_folded_insert_needs_half_the_operations(dtype):
    insert, x = FoldedFusion(ConcreteFusion(6, 4)), torch.ones(1, 6, 4, 4, dtype=dtype)
    with torch.inference_mode(), Counter() as counter:
        insert(x)
    converting = counter.names.count("to.dtype")
    assert len(counter.names) - converting == OPERATIONS_BEFORE // 2, counter.names
    assert converting == (0 if dtype == torch.float32 else 2)


@pytest.mark.parametrize("fused", ["folded", "plain"])
def test_black_parts_of_a_mask_leave_the_features_as_they_are(insert, fused):
    x, mask = torch.randn(1, 6, 4, 4), torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    call = FoldedFusion(insert, 0.5) if fused == "folded" else insert
    strength = BlockMask(mask).resize((4, 4), x.device, 1.0 if fused == "folded" else 0.5)
    masked = call(x, strength)
    assert torch.equal(masked[..., 2:], x[..., 2:])
    assert torch.allclose(masked[..., :2], insert(x, 0.5)[..., :2], atol=1e-5)


def test_mask_is_resized_once_for_each_size():
    mask = BlockMask(torch.ones(1, 1, 32, 32))
    at = [mask.resize(size, torch.device("cpu")) for size in [(4, 4), (8, 8), (4, 4)]]
    assert at[0] is at[2] and at[1].shape == (1, 1, 8, 8)
