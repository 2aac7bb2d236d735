"""Operations that a style adds to a forward pass, and what redrawing the face takes.

    python -m evaluation.performance.operations

A full-size SD1.5 in half precision runs on the simulated GPU of :mod:`.memory`. The figures go to
``evaluation/results/operations.json``. Views, allocations and the attentions' own kernels, which
are the same with a style, do not count as operations.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..comfyui_host import import_pack, load, start
from .memory import GIB

RESULTS = Path(__file__).resolve().parents[1] / "results" / "operations.json"
ALLOCATIONS = {torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.new_empty}
QUERIES = {torch.ops.prim.device}  # Of fake tensors alone.
log = logging.getLogger("benchmark")


def main() -> None:
    """Count, and write the figures."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    start(cpu=True, use_pytorch_cross_attention=True)
    import_pack()
    figures = count()
    log.info(figures)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


class Operations(TorchDispatchMode):
    """Counts what moves data."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count it."""
        self.count += not func.is_view and func.overloadpacket not in ALLOCATIONS | QUERIES
        return func(*args, **(kwargs or {}))


def count() -> dict[str, float]:
    """Return operations of a forward pass, sample-forwards of redrawing, and GiB that it keeps."""
    training = load("simulated_training")
    borrow = load("acfun_pack.nodes.comfyui.training_models").training_backbone
    with (
        training.simulation(training.Settings()) as (_, sockets),
        borrow(**sockets, dtype=None) as backbone,
        torch.no_grad(),
    ):
        noisy = torch.empty(backbone.latents_shape(512), device=backbone.device)
        prompt = backbone.encode_prompt("a woman", "S*", {})
        operations = count_operations(backbone, noisy, prompt)
        return operations | count_redrawing(backbone, noisy, prompt)


def count_operations(backbone: Any, noisy: Any, prompt: Any) -> dict[str, float]:
    """Return operations of one forward pass without and with adapters of one strength."""
    method = "acfun_pack.acfun_ops.method."
    fusion, injection = load(method + "concrete_fusion"), load(method + "injection")
    points = backbone.insert_points("resblock")
    modules = {block: point.module for block, point in points.items()}
    adapters = {b: fusion.ConcreteFusion(point.channels) for b, point in points.items()}
    strengths = dict.fromkeys(adapters, 1.0)
    folded = injection.fold_adapters(adapters, strengths, backbone.device)
    with Operations() as plain:
        backbone.denoise(noisy, 1.0, prompt)
    with injection.attach_adapters(folded, modules), Operations() as styled:
        backbone.denoise(noisy, 1.0, prompt)
    return {
        "plain": plain.count,
        "styled": styled.count,
        "an adapter": (styled.count - plain.count) / len(adapters),
    }


def count_redrawing(backbone: Any, noisy: Any, prompt: Any) -> dict[str, float]:
    """Return samples that go through the model for the style and for a face, and what is kept."""
    how = load("acfun_pack.acfun_ops.method.alignment_loss").SETTINGS.redrawing
    restyler = load("acfun_pack.acfun_ops.sampling.style_injection").Restyler
    samples: list[int] = []
    network = backbone.network.module
    hook = network.register_forward_pre_hook(lambda _, args: samples.append(len(args[0])))
    restyler = restyler(backbone, prompt, prompt, how)
    inversion = restyler.invert(noisy)
    inverted = sum(samples)
    restyler.restyle(inversion, inversion)
    hook.remove()
    # The simulated GPU has no numbers: all sigmas are one, and the inputs of one are kept.
    (inputs,) = inversion.inputs.values()
    return {
        "redrawing, steps": how.steps,
        "redrawing, forwards of the style": inverted,
        "redrawing, forwards of a face": sum(samples),
        "redrawing, GiB in system RAM": round(
            2 * how.steps * sum(tensor.nbytes for tensor in inputs) / GIB, 2
        ),
    }


if __name__ == "__main__":
    main()
