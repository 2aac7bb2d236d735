"""What of the gate applies to the transformer: ``python -m evaluation.toy.gate.transformer``."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from acfun_ops.backbones.backbone import Context, InsertPoint
from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.backbones.image_encoder import load_vision_encoder
from acfun_ops.backbones.pipeline_parts import load_parts
from acfun_ops.method.concrete_fusion import InsertAt
from evaluation.comfyui_host import load

from .. import PRIOR
from ..reader import load_reader
from ..training.transformer import network_of, new_transformer, plain_kernels
from .__main__ import sheet
from .measures import sample_prompts, stroke_ratios

LEAST_READ, MOST_OFF = 0.9, 1.5
TIMES = 1000
STATE = Path("out/nano2/transformer.pt")
"""What the lessons left, in their work folder."""


class TransformerBackbone(DiffusersBackbone):
    """The prior with a transformer in the U-Net's place, as a lesson's state has it."""

    def __init__(self, prior: Path, state: Path) -> None:
        self.network = new_transformer()  # Before what freezes and names all networks.
        super().__init__(load_parts(prior, "cpu", torch.float32), load_vision_encoder(prior, None))
        left = torch.load(state, map_location="cpu", weights_only=True)
        self.network.load_state_dict(left["average"])
        times = torch.arange(1, TIMES) / TIMES
        self.sigmas, self.prediction = times / (1 - times), "velocity"
        self.kind, attention = network_of(self.network), "acfun_pack.nodes.comfyui.image_attention"
        self.grid = load("acfun_pack.nodes.comfyui.sites").TokenGrid(self.kind)
        self.attention = load(attention).ImageAttention(self.kind, self.grid)

    @override
    def insert_points(self, where: InsertAt) -> dict[str, InsertPoint]:
        points = load("acfun_pack.nodes.comfyui.sites").insert_points
        found: dict[str, InsertPoint] = points(self.kind, where, self.grid)
        return found

    @override
    def self_attentions(self) -> list[nn.Module]:
        return self.attention.modules()

    @override
    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        """Denoise along the flow's straight lines, to float32."""
        noisy, time = noisy / (1 + sigma), sigma / (1 + sigma)
        self.grid.look_at(noisy)
        times = noisy.new_full((len(noisy),), time)
        tokens = context.tokens.expand(len(noisy), -1, -1)
        options = {"optimized_attention_override": self.attention.attend}
        with plain_kernels(self.network), self.attention.watch_blocks():
            velocity: Tensor = self.network(
                noisy, times, tokens, tokens.shape[1], transformer_options=options
            )
        return noisy - time * velocity

    @override
    def _networks(self) -> list[Any]:
        return [*super()._networks(), self.network]


def main() -> int:
    """Measure and write a contact sheet beside the state; return 1 if a row is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=STATE)
    state = parser.parse_args().state
    backbone = TransformerBackbone(PRIOR, state)
    samples, read = sample_prompts(backbone, load_reader())
    strokes = {family: found["ratio"] for family, found in stroke_ratios(backbone).items()}
    sheet(samples, state.with_suffix(".jpg"))
    sys.stdout.write(json.dumps({"attributes read back": read, "own strokes": strokes}, indent=1))
    return int(min(read.values()) < LEAST_READ or max(strokes.values()) > MOST_OFF)


if __name__ == "__main__":
    sys.exit(main())
