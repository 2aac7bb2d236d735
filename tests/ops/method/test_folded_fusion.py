"""The adapter at one strength: the same function, in few operations and little memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from acfun_ops.errors import ACFunError
from acfun_ops.method.concrete_fusion import ConcreteFusion, FoldedFusion
from acfun_ops.method.injection import BlockMask

# They move no data.
VIEWS = {"t.default", "view.default", "unbind.int", "detach.default"}


class Counter(TorchDispatchMode):
    """Notes every operation on tensors but views."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.__name__ not in VIEWS:
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


def test_folded_insert_hands_gradients_through(insert):
    x = torch.randn(1, 6, 5, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    gradients = [
        torch.autograd.grad(f(x).square().sum(), x)[0] for f in (insert, FoldedFusion(insert))
    ]
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-3)


def test_folded_insert_refuses_other_channels(insert):
    with pytest.raises(ACFunError, match="6 channels wide, the block 5"):
        FoldedFusion(insert)(torch.zeros(1, 5, 2, 2))


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float32, 5), (torch.float16, 7), (torch.bfloat16, 7)]
)
def test_an_adapter_is_few_operations(dtype, most):
    insert, x = ConcreteFusion(6, 4), torch.ones(1, 6, 4, 4, dtype=dtype)
    folded = FoldedFusion(insert)
    with torch.no_grad(), Counter() as sampling:
        folded(x)
    with Counter() as training:
        insert(x)
    assert len(sampling.names) == most, sampling.names
    # Folding: both projections put together, and 1 + the bias.
    assert len(training.names) == most + 3, training.names


def plain_formula(insert, x):
    """CFun by torch's own operations alone, float32 or more throughout."""
    full = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    sigma = full.flatten(2).std(dim=-1, correction=0)
    if insert.statistics == "mean_std":
        sigma = torch.cat([full.flatten(2).mean(dim=-1), sigma], dim=1)
    hidden = torch.nn.functional.silu(insert.down(sigma))
    shape = (*x.shape[:2], *[1] * (x.ndim - 2))
    return full * (1 + insert.scale(hidden).view(shape)) + insert.shift(hidden).view(shape)


@pytest.mark.parametrize("shape", [(2, 6, 3, 2), (2, 6, 5)])
def test_gradients_are_those_of_finite_differences(insert, shape):
    insert = insert.double().requires_grad_()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    names, weights = zip(*insert.named_parameters(), strict=True)

    def call(x, *weights):
        return torch.func.functional_call(insert, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x.requires_grad_(), *weights))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)]
)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_are_those_of_the_plain_formula(insert, dtype, tolerance, checkpointed):
    insert, generator = insert.requires_grad_(), torch.Generator().manual_seed(3)
    x = torch.randn(2, 6, 8, 8, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(2, 6, 8, 8, generator=generator)

    def call(x):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
            return insert(x)

    wanted = [x, *insert.parameters()]
    results = checkpoint(call, x, use_reentrant=False) if checkpointed else call(x)
    found = torch.autograd.grad((results * weight).sum(), wanted)
    expected = torch.autograd.grad((plain_formula(insert, x) * weight).sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_backward_pass_keeps_the_features_once_as_they_came(insert, dtype):
    insert, kept = insert.requires_grad_(), {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.randn(2, 6, 64, 64).to(dtype).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = insert(x)
    assert result.requires_grad
    own = x.untyped_storage().nbytes()
    assert kept.pop(x.untyped_storage().data_ptr()) == own
    assert sum(kept.values()) < 0.1 * own


def test_a_compiled_model_may_run_an_adapter(insert):
    x = torch.randn(2, 6, 5, 4)
    compiled = torch.compile(insert, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x), insert(x), atol=1e-5)


@pytest.mark.parametrize("fused", ["folded", "plain"])
def test_black_parts_of_a_mask_leave_the_features_as_they_are(insert, fused):
    x, mask = torch.randn(1, 6, 4, 4), torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    resized = BlockMask(mask).resize((4, 4), x.device)
    masked = FoldedFusion(insert, 0.5)(x, resized) if fused == "folded" else insert(x, resized / 2)
    assert torch.equal(masked[..., 2:], x[..., 2:])
    assert torch.allclose(masked[..., :2], insert(x, 0.5)[..., :2], atol=1e-5)
