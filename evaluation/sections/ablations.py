"""The sections of the report: rivals, parts, strengths, weights, readings and training lengths.

The figures that expectations name are the contract with the bench: ``face`` (higher), ``texture``,
``colour``, ``truth`` and ``leak`` (all lower), ``variety`` and ``prompt`` (higher).
"""

from dataclasses import dataclass, field, replace
from typing import Any

from acfun_ops.method.alignment_loss import SETTINGS
from acfun_ops.method.injection import PartStrengths
from acfun_ops.training.config import TrainConfig

from ..benchmark import Expectation, Method, Row, Sampling, Section
from ..methods.acfun import Acfun
from ..methods.attention import AttentionDistillation, LatentAdain, NamedImg2Img, StyleId
from ..methods.lora import BLora, DreamBoothLora
from ..methods.textual_inversion import DreamStyler, Inst, TextualInversion

OURS = "ACFun"
# What the ablations are made around: the product before release 0.3.0.
BASE = "ACFun, settings of 0.2.0"
STAGED = f"{BASE}, staged"
B_LORA = "B-LoRA"
# With the settings of their papers, for models of Stable Diffusion's size.
PEERS: dict[str, Method] = {
    "textual inversion": TextualInversion(),
    "DreamBooth LoRA": DreamBoothLora(),
    "InST-like": Inst(),
    B_LORA: BLora(),
    "DreamStyler": DreamStyler(),
    "StyleID": StyleId(steps=50),
    "Attention Distillation": AttentionDistillation(),
    "AdaIN on latents": LatentAdain(),
    "img2img, style in words": NamedImg2Img(),
}
PAPER = "ACFun, the paper's settings"
PAPER_STEPS = 500
LENGTHS = (50, 100, 200, 500)
STYLE_WEIGHTS = (0.3, 0.6, 0.8, 1.0, 1.6)
PAPERS_STYLE_WEIGHTS = (0.6, 0.8, 1.0)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all rows of a bench share.

    config: of ACFun. steps: of the optimiser, for every method that learns from a pair.
    steps_once: by name, for peers that are taught once for all pairs. sampling: how pictures
    are drawn. peers: by name, with the settings tuned for the bench. ablation_pairs: how many
    pairs the ablations are run on; None takes all.
    """

    config: TrainConfig
    steps: int
    sampling: Sampling = field(default=Sampling())
    peers: tuple[tuple[str, Method], ...] = tuple(PEERS.items())
    ablation_pairs: int | None = None
    steps_once: tuple[tuple[str, int], ...] = ()


def all_sections(setting: Setting) -> list[Section]:
    """Return every section, in the order of the report."""
    makers = (rivals, part_ablations, drawing_strengths, style_weights)
    makers += (readings, prompts, insert_variants, training_lengths)
    return [maker(setting) for maker in makers]


def rivals(setting: Setting) -> Section:
    """ACFun and its peers, on the same model, pairs and budget of steps."""
    names = [name for name, _ in setting.peers]
    ours = [our_row(setting), row_of_staged(setting)]
    return Section(
        title="Peers",
        rows=ours + [_row(setting, name, peer) for name, peer in setting.peers],
        reference=OURS,
        is_ranked=True,
        expectations=[
            Expectation(f"ACFun keeps the face better than {name}", OURS, "face", "higher", name)
            for name in names
        ]
        + [Expectation("the model draws strokes", OURS, "texture", "lower", STAGED)],
    )


def part_ablations(setting: Setting) -> Section:
    """Which part brings what (the paper's figures 6 and 8)."""
    alone, encoder, decoder, cfun = "AFun alone", "AFun + encoder", "AFun + decoder", "CFun alone"
    parts = {
        alone: ("abstract",),
        encoder: ("abstract", "encoder"),
        decoder: ("abstract", "decoder"),
        cfun: ("encoder", "middle", "decoder"),
    }
    return Section(
        title="Trained parts",
        rows=[base_row(setting)]
        + [ablation_row(setting, name, parts=trained) for name, trained in parts.items()],
        reference=BASE,
        expectations=[
            Expectation("AFun alone has no face", alone, "face", "lower", BASE),
            Expectation("CFun in the encoder adds texture", encoder, "texture", "lower", alone),
            Expectation("CFun in the decoder adds the face", decoder, "face", "higher", alone),
            Expectation("AFun adds to CFun", BASE, "truth", "lower", cfun),
            Expectation("all parts are best", BASE, "truth", "lower", encoder),
            Expectation("all parts are best", BASE, "truth", "lower", decoder),
        ],
    )


def drawing_strengths(setting: Setting) -> Section:
    """The strengths a user sets at drawing; all rows share one training."""
    rows = [base_row(setting)]
    for strength in (0.0, 0.5):
        rows.append(ablation_row(setting, f"abstract {strength:g}", abstract_strength=strength))
        for part in ("encoder", "decoder"):
            strengths = PartStrengths(**{part: strength})
            rows.append(ablation_row(setting, f"{part} {strength:g}", strengths=strengths))
    return Section(
        title="Strengths at drawing",
        rows=rows,
        reference=BASE,
        expectations=[
            Expectation("less encoder is less texture", "encoder 0", "texture", "higher", BASE),
            Expectation("less decoder is less face", "decoder 0", "face", "lower", BASE),
            Expectation("half is between", "decoder 0.5", "face", "higher", "decoder 0"),
        ],
    )


def style_weights(setting: Setting) -> Section:
    """What the style's weight trades against the face (the paper's figure 7)."""
    names = {weight: f"style_weight {weight:g}" for weight in STYLE_WEIGHTS}
    low, middle, high = (names[weight] for weight in PAPERS_STYLE_WEIGHTS)
    return Section(
        title="Style weight",
        rows=[config_row(setting, name, style_weight=weight) for weight, name in names.items()],
        reference=low,
        expectations=[
            Expectation("more weight, nearer texture", middle, "texture", "lower", low),
            Expectation("more weight, nearer texture", high, "texture", "lower", middle),
            Expectation("more weight, nearer colours", middle, "colour", "lower", low),
            Expectation("more weight, nearer colours", high, "colour", "lower", middle),
            Expectation("more weight, less face", high, "face", "lower", low),
            Expectation("more weight, more leakage", high, "leak", "higher", low),
        ],
    )


def readings(setting: Setting) -> Section:
    """The five readings of eq. 4."""
    rivals_ = ("paired", "imagery", "blend")
    return Section(
        title="Readings of the alignment loss",
        rows=[base_row(setting), row_of_staged(setting)]
        + [config_row(setting, reading, alignment=reading) for reading in rivals_],
        reference=BASE,
        is_ranked=True,
        expectations=[
            Expectation("drawn keeps more of the face", BASE, "face", "higher", reading)
            for reading in rivals_
        ],
    )


def prompts(setting: Setting) -> Section:
    """A description of the face against a bare pseudo-word (the paper's figure 7)."""
    bare = "bare S*"
    return Section(
        title="Prompt",
        rows=[base_row(setting), ablation_row(setting, bare, bare=True)],
        reference=BASE,
        expectations=[
            Expectation("a bare word leaks the style's person", bare, "leak", "higher", BASE),
            Expectation("a bare word loses the face", bare, "face", "lower", BASE),
            Expectation("a bare word loses the prompt", bare, "prompt", "lower", BASE),
        ],
    )


def insert_variants(setting: Setting) -> Section:
    """Where CFun sits and what drives it (the paper's figure 8)."""
    attention, both = "in attention", "mean and deviation"
    return Section(
        title="Inserts",
        rows=[
            base_row(setting),
            config_row(setting, attention, insert_at="attention"),
            config_row(setting, both, statistics="mean_std"),
        ],
        reference=BASE,
        expectations=[
            Expectation("inserts in attention leak", attention, "leak", "higher", BASE),
            Expectation("the mean carries content", both, "leak", "higher", BASE),
            Expectation("the mean costs the face", both, "face", "lower", BASE),
        ],
    )


def training_lengths(setting: Setting) -> Section:
    """How long to train."""
    names = {steps: f"{steps} steps" for steps in LENGTHS}
    shortest, longest = names[LENGTHS[0]], names[LENGTHS[-1]]
    paper = ablation_row(setting, PAPER, config=papers_config(setting.config))
    return Section(
        title="Training length",
        rows=[
            base_row(setting),
            *(replace(ablation_row(setting, name), steps=steps) for steps, name in names.items()),
            replace(paper, steps=PAPER_STEPS),
        ],
        reference=BASE,
        is_ranked=True,
        expectations=[
            Expectation("longer, nearer to the truth", longest, "truth", "lower", shortest),
            Expectation("longer, less variety", longest, "variety", "lower", shortest),
            Expectation("ours keeps more of the face, sooner", BASE, "face", "higher", PAPER),
            Expectation("ours has more of the colours, sooner", BASE, "colour", "lower", PAPER),
            Expectation("ours has more of the texture, sooner", BASE, "texture", "lower", PAPER),
        ],
    )


def papers_config(config: TrainConfig) -> TrainConfig:
    """Return a training with what the paper states; eq. 4 taken literally is ``imagery``."""
    return replace(config, learning_rate=1e-4, alignment="imagery")


def our_row(setting: Setting) -> Row:
    """Return the product's row."""
    return _row(setting, OURS, Acfun(config=setting.config, settings=SETTINGS))


def base_row(setting: Setting) -> Row:
    """Return the row that the ablations change."""
    return _row(setting, BASE, Acfun(config=setting.config))


def row_of_staged(setting: Setting) -> Row:
    """Return the row of the reading whose picture between the two is the face's latent, moved."""
    config = replace(setting.config, alignment="staged")
    return _row(setting, STAGED, Acfun(config=config))


def ablation_row(setting: Setting, name: str, **changes: Any) -> Row:
    """Return the ablations' row with some of its fields changed, on their pairs."""
    method = replace(Acfun(config=setting.config), **changes)
    return replace(_row(setting, name, method), pairs=setting.ablation_pairs)


def config_row(setting: Setting, name: str, **changes: Any) -> Row:
    """Return the ablations' row with some options of its training changed."""
    return ablation_row(setting, name, config=replace(setting.config, **changes))


def peer_row(setting: Setting, name: str) -> Row:
    """Return the row of one of the setting's peers."""
    return _row(setting, name, dict(setting.peers)[name])


def _row(setting: Setting, name: str, method: Method) -> Row:
    steps = dict(setting.steps_once).get(name, setting.steps)
    return Row(name=name, method=method, steps=steps, sampling=setting.sampling)
