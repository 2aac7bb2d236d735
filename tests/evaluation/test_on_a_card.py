"""On another device than the CPU every method gives the same pictures, and nothing is mixed."""

from dataclasses import replace

import pytest
import torch
from mock_card import CARD, mock_card
from torch.nn.attention import SDPBackend, sdpa_kernel

from acfun_ops.backbones.diffusers_backbone import load_pipeline
from acfun_ops.training.config import TrainConfig
from evaluation.benchmark import Sampling, Task
from evaluation.methods.acfun import RELEASE_0_2, Acfun
from evaluation.methods.attention import AttentionDistillation, LatentAdain, NamedImg2Img, StyleId
from evaluation.methods.feed_forward import PatchTransferPeer
from evaluation.methods.instantstyle import InstantStyle
from evaluation.methods.lora import BLora, DreamBoothLora
from evaluation.methods.textual_inversion import DreamStyler, Inst, TextualInversion
from evaluation.toy_benchmark import PRIOR

CONFIG = TrainConfig(learning_rate=1e-2, rank=4, alignment="staged")
SHORT = replace(RELEASE_0_2, redrawing=replace(RELEASE_0_2.redrawing, steps=2))
OURS = Acfun(config=CONFIG, settings=SHORT)
METHODS = {
    "ACFun": OURS,
    "drawn": replace(OURS, config=replace(CONFIG, alignment="drawn")),
    "imagery": replace(OURS, config=replace(CONFIG, alignment="imagery")),
    "encoder alone": replace(OURS, parts=("encoder",)),
    "no residual": replace(OURS, variant="no residual"),
    "independent levels": replace(OURS, variant="independent levels"),
    "textual inversion": TextualInversion(),
    "LoRA": DreamBoothLora(),
    "B-LoRA": BLora(),
    "InST": Inst(),
    "DreamStyler": DreamStyler(),
    "InstantStyle": InstantStyle(),
    "InstantStyle from the photo": InstantStyle(strength=0.7),
    "StyleID": StyleId(steps=2),
    "Attention Distillation": AttentionDistillation(),
    "feed-forward": PatchTransferPeer(),
    "AdaIN": LatentAdain(),
    "img2img": NamedImg2Img(),
}
# The tiny pipeline's decoder has too few transformers, and its prompts are of several lengths.
ON_THE_PRIOR = {"B-LoRA", "no residual"}


def drawn_on(folder, device, method, pair, path):
    backbone = load_pipeline(folder, device=device)
    assert backbone.unet.device == torch.device(device)
    side = backbone.native_side // backbone.latent_scale
    shape = (2, backbone.unet.config.in_channels, side, side)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if method.learns:
        method.learn(backbone, pair, 2, path)
    return method.generate(Task(backbone, pair, path, noise, Sampling(steps=2, guidance=2.0)))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_draws_on_a_card_what_it_draws_on_the_cpu(
    name, pipeline_folder, pair, tmp_path, few_drawings
):
    method = METHODS[name]
    if "LoRA" in name:
        pytest.importorskip("peft")
    folder = PRIOR if name in ON_THE_PRIOR else pipeline_folder
    # An unknown device attends by plain products.
    with sdpa_kernel(SDPBackend.MATH):
        on_cpu = drawn_on(folder, "cpu", method, pair, tmp_path / "cpu" / "x.safetensors")
        with mock_card():
            on_card = drawn_on(folder, CARD, method, pair, tmp_path / "card" / "x.safetensors")
    for ours, theirs in zip(on_card, on_cpu, strict=True):
        assert (ours - theirs).abs().max() < 5e-3


def test_card_refuses_what_a_card_refuses():
    with mock_card() as card:
        ours, theirs = torch.ones(3).to(card), torch.ones(3)
        assert torch.equal((ours + ours).cpu(), theirs + theirs)
        with pytest.raises(RuntimeError, match="same device"):
            ours + theirs
        with pytest.raises(RuntimeError, match="draws on the card"):
            torch.randn(3, device=card)
