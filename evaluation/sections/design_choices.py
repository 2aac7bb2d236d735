"""The sections on the product's own choices: what each default is measured against."""

from dataclasses import replace

from acfun_ops.method.alignment_loss import SETTINGS

from ..benchmark import Expectation, Section
from .ablations import OURS, Setting, ablation_row, config_row, our_row

SHARPER, UNGUIDED, ALONE = (
    "redrawn at temperature 4",
    "redrawn unguided",
    "without the photo's shape",
)
COLOURS = "twice the colour pull"
SOFTER = "offset noise 0.1, redrawn in 20 steps"
RANKS = (8, 128)
LEARNING_RATES = (3e-4, 1e-3, 1e-2)


def design_choices(setting: Setting) -> Section:
    """Choices of DESIGN undone one at a time."""
    undone = {
        "pooled style tokens": "pooled tokens",
        "S* not learnt": "fixed word",
        "AFun without residual": "no residual",
        "independent noise levels": "independent levels",
        "white noise": "white noise",
        "no colour pull": "no colour pull",
    }
    rows = [our_row(setting)]
    rows += [ablation_row(setting, name, variant=variant) for name, variant in undone.items()]
    rows += [config_row(setting, f"rank {rank}", rank=rank) for rank in RANKS]
    return Section(
        title="Design choices",
        rows=rows,
        reference=OURS,
        is_ranked=True,
        expectations=[
            Expectation(f"{name} is no better", name, "structure", "lower", OURS) for name in undone
        ]
        + [
            Expectation("white noise tints the seeds", "white noise", "colour", "higher", OURS),
            Expectation("the pull brings colours", "no colour pull", "colour", "higher", OURS),
        ],
    )


def restyle_choices(setting: Setting) -> Section:
    """Choices of the reading ``drawn``: how the picture between is drawn, and what pulls to it."""
    variants = {
        UNGUIDED: "unguided redrawing",
        SHARPER: "sharper redrawing",
        "redrawn in 20 steps": "longer redrawing",
        ALONE: "no handover",
        COLOURS: "double colour pull",
    }
    return Section(
        title="Drawn by the model",
        rows=[our_row(setting)]
        + [ablation_row(setting, name, variant=variant) for name, variant in variants.items()],
        reference=OURS,
        is_ranked=True,
        expectations=[
            Expectation("guidance keeps the face", UNGUIDED, "rank1", "lower", OURS),
            Expectation("sharper attention, more strokes", SHARPER, "texture", "lower", OURS),
            Expectation("the photo's shape keeps the face", ALONE, "rank1", "lower", OURS),
            Expectation("the photo's shape costs strokes", ALONE, "texture", "lower", OURS),
            Expectation("the pull brings colours", COLOURS, "colour", "lower", OURS),
        ],
    )


def learning_rates(setting: Setting) -> Section:
    """The step size."""
    rows = [config_row(setting, f"learning rate {r:g}", learning_rate=r) for r in LEARNING_RATES]
    rows.insert(0, our_row(setting))
    return Section(title="Learning rate", rows=rows, reference=OURS, is_ranked=True)


def softer_noise(setting: Setting) -> Section:
    """Noise and redrawing as on Stable Diffusion (``docs/real-weights.md``)."""
    redrawing = replace(SETTINGS.redrawing, steps=20)
    softer = replace(SETTINGS, noise_offset=0.1, redrawing=redrawing)
    pull = f"{SOFTER}, colour pull 10"
    return Section(
        title="Softer noise",
        rows=[
            our_row(setting),
            ablation_row(setting, SOFTER, settings=softer),
            ablation_row(setting, pull, settings=replace(softer, colour_weight=10.0)),
        ],
        reference=OURS,
        expectations=[
            Expectation("softer noise follows prompts", SOFTER, "prompt", "higher", OURS),
            Expectation("the pull brings colours", pull, "colour", "lower", SOFTER),
        ],
        is_ranked=True,
    )
