"""Styles and Backbones on the tiny transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

import comfy.model_patcher
import torch
from tiny_styles import FACTS
from tiny_transformers import POOLED_WIDTH, TEXT_WIDTH, TinyVAE, TinyVision, build_model
from torch import Tensor, nn

SIDE = 96


def style_for(model: Any, scale: float = 0.5) -> Any:
    """Return a style whose adapters, drawn at random, fit a MODEL; at 0 they are untrained."""
    from acfun_pack.acfun_ops.method.concrete_fusion import ConcreteFusion
    from acfun_pack.acfun_ops.style.style import Style, StyleFacts
    from acfun_pack.nodes.comfyui.families import network_of
    from acfun_pack.nodes.comfyui.sites import TokenGrid, insert_points

    generator, network = torch.Generator().manual_seed(3), network_of(model)
    concrete = {}
    for block, point in insert_points(network, "resblock", TokenGrid(network)).items():
        adapter = ConcreteFusion(point.channels, 8)
        adapter.reset_parameters(generator)
        with torch.no_grad():
            for layer in (adapter.scale, adapter.shift):
                layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=generator))
        concrete[block] = {name: t.half() for name, t in adapter.state_dict().items()}
    kind = {"format": 1, "family": network.family, "insert_at": "resblock", "statistics": "std"}
    facts = StyleFacts(**asdict(FACTS) | kind)
    return Style(
        facts=facts,
        abstract={"layers.0.query.weight": torch.zeros(4, TEXT_WIDTH)},
        vectors={},
        style_tokens=torch.zeros(1, 4),
        concrete=concrete,
    )


def apply(model: Any, style: Any, mask: Any = None, **strengths: float) -> Any:
    """Return a styled clone of a MODEL, as Apply CFun Adapters makes it."""
    from acfun_pack.acfun_ops.method.injection import PartStrengths
    from acfun_pack.nodes.comfyui.adapters import apply_adapters, check_fits
    from acfun_pack.nodes.comfyui.node_status import NodeStatus
    from acfun_pack.nodes.comfyui.schedule import AdapterSchedule

    check_fits(style, model)
    by_block = PartStrengths(**strengths).block_strengths(style.concrete)
    how = AdapterSchedule(), mask, NodeStatus("node")
    return apply_adapters(model, style, by_block, *how)


class TinyClip:
    """A CLIP that a training can hold, without an encoder."""

    layer_idx = None

    def __init__(self) -> None:
        cpu = torch.device("cpu")
        self.cond_stage_model = nn.Module()
        self.patcher = comfy.model_patcher.ModelPatcher(self.cond_stage_model, cpu, cpu)

    def clone(self) -> TinyClip:
        """Return itself; nothing here can change."""
        return self


@contextmanager
def training_backbone(family: str, model: Any = None) -> Iterator[Any]:
    """Yield the pack's Backbone on a tiny MODEL; in the place of a text encoder stands noise."""
    from acfun_pack.acfun_ops.backbones.backbone import Context
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    model = model or build_model(family)
    generator = torch.Generator().manual_seed(9)
    words = torch.randn(1, 20, TEXT_WIDTH, generator=generator)
    pooled = None
    if family in POOLED_WIDTH:
        pooled = torch.randn(1, POOLED_WIDTH[family], generator=generator)

    def encode_prompt(prompt: str, pseudo_word: str, vectors: dict[str, torch.Tensor]) -> Context:
        tokens = words if prompt else words[:, :7]
        if vectors:
            tokens = tokens + vectors["qwen"]
        return Context(tokens, pooled, is_joint=True)

    sockets = (model, TinyClip(), TinyVAE(model), TinyVision())
    with training_backbone(*sockets, dtype=None) as backbone:
        vars(backbone)["fingerprint"] = "0" * 64
        backbone.native_side = SIDE
        backbone.encode_prompt = encode_prompt
        backbone.word_vectors = lambda word: {"qwen": torch.zeros(TEXT_WIDTH)}
        yield backbone


def slopes(family: str, is_checkpointed: bool = False) -> tuple[float, float, list[Tensor]]:
    """Return gradient and finite difference along a random direction, and the gradient."""
    from acfun_pack.acfun_ops.backbones.backbone import Context
    from acfun_pack.acfun_ops.method.injection import attach_adapters

    generator = torch.Generator().manual_seed(1)
    model = build_model(family)
    inserts = style_for(model).inserts()
    with training_backbone(family, model) as backbone, ExitStack() as stack:
        sites = {b: p.module for b, p in backbone.insert_points("resblock").items()}
        prompt = backbone.encode_prompt("a", "S*", {})
        stack.enter_context(attach_adapters(inserts, sites))
        if is_checkpointed:
            stack.enter_context(backbone.gradient_checkpointing())
        weights = [w.requires_grad_() for i in inserts.values() for w in i.parameters()]
        weights.append(prompt.tokens.clone().requires_grad_())
        along = [torch.randn(w.shape, generator=generator) for w in weights]
        noisy = torch.randn(2, *backbone.latents_shape(SIDE)[1:], generator=generator)

        def loss(step: float) -> Tensor:
            with torch.no_grad():
                for weight, direction in zip(weights, along, strict=True):
                    weight += step * direction
            tokens = Context(weights[-1], prompt.pooled, is_joint=True)
            return backbone.denoise(noisy, 1.3, tokens).double().square().mean()

        loss(0.0).backward()
        gradients = [weight.grad for weight in weights]
        slope = sum(float((g.double() * d).sum()) for g, d in zip(gradients, along, strict=True))
        with torch.no_grad():
            difference = -float(loss(-1e-3) - loss(2e-3)) / 2e-3
    return slope, difference, gradients
