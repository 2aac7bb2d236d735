"""The rows on the small prior: ACFun, what is changed of it, and its peers."""

from dataclasses import replace
from typing import Any

from acfun_ops.method.alignment_loss import SETTINGS
from acfun_ops.training.config import TrainConfig

from ..benchmark import Method, Row, Sampling
from ..methods.acfun import Acfun
from ..methods.attention import AttentionDistillation, LatentAdain, NamedImg2Img, StyleId
from ..methods.feed_forward import PatchTransferPeer
from ..methods.instantstyle import InstantStyle
from ..methods.lora import BLora, DreamBoothLora
from ..methods.textual_inversion import DreamStyler, Inst, TextualInversion

OURS = "ACFun"
# What the ablations are made around: the product before release 0.3.0.
BASE = "ACFun, settings of 0.2.0"
STAGED = f"{BASE}, staged"
PAPER, PAPER_STEPS = "ACFun, the paper's settings", 500
B_LORA, INSTANT_STYLE = "B-LoRA", "InstantStyle"
# Adam moves a layer's output by its width: the default is for layers five to eleven times as wide.
CONFIG = TrainConfig(learning_rate=3e-3)
SAMPLING = Sampling(steps=20, guidance=2.0)
ABLATION_PAIRS = 12
PEERS: dict[str, Method] = {
    "textual inversion": TextualInversion(initial_face="woman", learning_rate=1e-2),
    "DreamBooth LoRA": DreamBoothLora(),
    "InST-like": Inst(),
    B_LORA: BLora(),
    "DreamStyler": DreamStyler(learning_rate=1e-2),
    INSTANT_STYLE: InstantStyle(),
    "InstantStyle, style in words too": InstantStyle(named=True),
    "InstantStyle from the photo": InstantStyle(strength=0.7),
    "StyleID": StyleId(),
    "Attention Distillation": AttentionDistillation(),
    "feed-forward, patch attention": PatchTransferPeer(),
    "AdaIN on latents": LatentAdain(),
    "img2img, style in words": NamedImg2Img(),
}
OUR_METHOD = Acfun(config=CONFIG, settings=SETTINGS)
# Of the optimiser, once for all pairs: within the hour on one core for both.
STEPS_ONCE: dict[type[Method], int] = {InstantStyle: 900, PatchTransferPeer: 1800}


def make_row(name: str, method: Method, pairs: int | None = None) -> Row:
    """Return a method's row at the budget that all rows on the prior share."""
    steps = STEPS_ONCE.get(type(method), CONFIG.steps)
    return Row(name=name, method=method, steps=steps, sampling=SAMPLING, pairs=pairs)


OUR_ROW = make_row(OURS, OUR_METHOD)
BASE_ROW = make_row(BASE, Acfun(config=CONFIG))
# The reading whose image between the two is the face's latent, moved.
STAGED_ROW = make_row(STAGED, Acfun(config=replace(CONFIG, alignment="staged")))


def ablation_row(name: str, **changes: Any) -> Row:
    """Return the ablations' row with some of its fields changed, on their pairs."""
    return make_row(name, replace(Acfun(config=CONFIG), **changes), ABLATION_PAIRS)


def config_row(name: str, **changes: Any) -> Row:
    """Return the ablations' row with some options of its training changed."""
    return ablation_row(name, config=replace(CONFIG, **changes))


def papers_config(config: TrainConfig) -> TrainConfig:
    """Return a training with what the paper states; eq. 4 taken literally is ``imagery``."""
    return replace(config, learning_rate=1e-4, alignment="imagery")
