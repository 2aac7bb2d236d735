"""GPU memory of training a style on full-size diffusion transformers, counted on a simulated GPU.

    python -m evaluation.performance.transformer_memory [--family flux2 ...]

ComfyUI's own classes with the published configurations (``transformer_memory.json``, as ComfyUI
reads them from the files) run one step on a pair: forward and backward in bf16, an adapter of rank
32 in each block. Weights are in fp8 with checkpointing and in bf16 without, all of them on the GPU;
text encoder and VAE have left it. The table goes to
``evaluation/results/memory_of_transformers.json``, where a family that is counted anew takes the
place of its old rows.
"""

import argparse
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..comfyui_host import import_pack, load, start
from .memory import GIB, RESULTS

TABLE = RESULTS.with_name("memory_of_transformers.json")
MODELS = json.loads(Path(__file__).with_suffix(".json").read_text())
SIDES = (512, 1024)
log = logging.getLogger("benchmark")


def main() -> None:
    """Count the families, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--family", choices=list(MODELS), action="append")
    families = parser.parse_args().family or list(MODELS)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    start(cpu=True, use_pytorch_cross_attention=True)
    import_pack()
    for weights, checkpointing in (("fp8", "on"), ("bf16", "off")):
        for family in families:
            rows = json.loads(TABLE.read_text()) if TABLE.is_file() else []
            new = list(count(family, weights, checkpointing))
            rows = [row for row in rows if (row["family"], row["weights"]) != (family, weights)]
            TABLE.write_text(json.dumps(rows + new, indent=1) + "\n")
            for row in new:
                log.info(row)


def count(family: str, weights: str, checkpointing: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each side: GiB of weights on the GPU, and at most in a step with them."""
    simulated = load("simulated_card")
    with simulated.simulated_card(200 * GIB) as card:
        model = new_model(family, weights)
        held = card.live
        with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
            load("acfun_pack.nodes.comfyui.autograd").make_differentiable(model, simulated.CARD)
            step = Step(model, family, simulated.CARD, checkpointing == "on", stack)
            for side in SIDES:
                card.restart()
                step.run(side)
                yield {
                    "family": family,
                    "model": MODELS[family]["model"],
                    "parameters, B": round(step.parameters / 1e9, 2),
                    "side": side,
                    "weights": weights,
                    "checkpointing": checkpointing,
                    "channels of all adapters": sum(each.channels for each in step.adapters),
                    "weights on the card": round(held / GIB, 2),
                    "peak": round(card.peak / GIB, 2),
                }


def new_model(family: str, weights: str) -> Any:
    """Return ComfyUI's model, loaded onto the simulated GPU."""
    simulated, management = load("simulated_card"), load("comfy.model_management")
    dtype = load("simulated_training").FLOATS[weights]
    kind = getattr(load("comfy.supported_models"), MODELS[family]["kind"])
    config = kind(dict(MODELS[family]["config"]))
    config.set_inference_dtype(dtype, torch.bfloat16 if dtype.itemsize == 1 else None)
    with torch.inference_mode():
        model = config.get_model({}, "", device=simulated.CPU)
        patcher = load("comfy.model_patcher").ModelPatcher(
            model, load_device=simulated.CARD, offload_device=simulated.CPU
        )
        management.load_models_gpu([patcher])
    return model


class Step:
    """A step of training the adapters and the offset of the prompt, of batch 2."""

    def __init__(
        self, model: Any, family: str, device: torch.device, checkpointed: bool, stack: ExitStack
    ) -> None:
        self.model, self.device, self.facts = model, device, MODELS[family]
        glue, method = "acfun_pack.nodes.comfyui.", "acfun_pack.acfun_ops.method."
        families, sites = load(glue + "families"), load(glue + "sites")
        self.layout = families.LAYOUTS[family]
        network = families.Network(model.diffusion_model.requires_grad_(False), family, self.layout)
        self.parameters = sum(weight.numel() for weight in network.module.parameters())
        self.grid = sites.TokenGrid(network)
        points = sites.insert_points(network, "resblock", self.grid)
        fusion = load(method + "concrete_fusion").ConcreteFusion
        adapters = {block: fusion(point.channels).to(device) for block, point in points.items()}
        self.adapters = nn.ModuleList(adapters.values())
        modules = {block: point.module for block, point in points.items()}
        stack.enter_context(load(method + "injection").attach_adapters(adapters, modules))
        stack.enter_context(load(glue + "transformer_training").exact_gradients(network))
        if checkpointed:
            stack.enter_context(load(glue + "autograd").checkpoint_blocks(sites.blocks_of(network)))
        weights = list(self.adapters.parameters())
        self.moments = [torch.empty_like(weight) for weight in weights for _ in range(2)]

    def run(self, side: int) -> None:
        """Run forward and backward at a side in pixels."""
        facts, config = self.facts, self.facts["config"]
        channels, pixels = facts.get("latent", (16, 8))
        tokens, width = facts["text"]
        frames = (1,) if self.layout.has_frames else ()
        noisy = torch.empty(
            2, channels, *frames, side // pixels, side // pixels, device=self.device
        )
        self.grid.look_at(noisy)
        prompt = torch.empty(2, tokens, width, device=self.device, requires_grad=True)
        conditions = {
            name: torch.empty(2, *shape, device=self.device)
            for name, shape in facts.get("conditions", {}).items()
        }
        if config.get("image_model") == "lumina2":
            conditions["num_tokens"] = tokens
        attend = load("comfy.ldm.modules.attention").attention_pytorch
        options = {"optimized_attention_override": lambda other, *args, **kw: attend(*args, **kw)}
        sigmas = torch.ones(2, device=self.device)
        output = self.model.apply_model(
            noisy, sigmas, c_crossattn=prompt, transformer_options=options, **conditions
        )
        loss = output.float().square().mean()
        torch.autograd.grad(loss, [prompt, *self.adapters.parameters()], allow_unused=True)


if __name__ == "__main__":
    main()
