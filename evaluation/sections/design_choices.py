"""The sections on the product's own choices: what each default is measured against."""

from dataclasses import replace

from ..benchmark import Expectation, Section
from ..methods.acfun import RELEASE_0_2
from .ablations import BASE, Setting, ablation_row, base_row, config_row

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
    rows = [base_row(setting)]
    rows += [ablation_row(setting, name, variant=variant) for name, variant in undone.items()]
    rows += [config_row(setting, f"rank {rank}", rank=rank) for rank in RANKS]
    return Section(
        title="Design choices",
        rows=rows,
        reference=BASE,
        is_ranked=True,
        expectations=[
            Expectation(f"{name} is no better", name, "structure", "lower", BASE) for name in undone
        ]
        + [
            Expectation("white noise tints the seeds", "white noise", "colour", "higher", BASE),
            Expectation("the pull brings colours", "no colour pull", "colour", "higher", BASE),
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
        rows=[base_row(setting)]
        + [ablation_row(setting, name, variant=variant) for name, variant in variants.items()],
        reference=BASE,
        is_ranked=True,
        expectations=[
            Expectation("guidance keeps the face", UNGUIDED, "rank1", "lower", BASE),
            Expectation("sharper attention, more strokes", SHARPER, "texture", "lower", BASE),
            Expectation("the photo's shape keeps the face", ALONE, "rank1", "lower", BASE),
            Expectation("the photo's shape costs strokes", ALONE, "texture", "lower", BASE),
            Expectation("the pull brings colours", COLOURS, "colour", "lower", BASE),
        ],
    )


def learning_rates(setting: Setting) -> Section:
    """The step size."""
    rows = [config_row(setting, f"learning rate {r:g}", learning_rate=r) for r in LEARNING_RATES]
    rows.insert(0, base_row(setting))
    return Section(title="Learning rate", rows=rows, reference=BASE, is_ranked=True)


def softer_noise(setting: Setting) -> Section:
    """Noise and redrawing as on Stable Diffusion (``docs/real-weights.md``)."""
    redrawing = replace(RELEASE_0_2.redrawing, steps=20)
    softer = replace(RELEASE_0_2, noise_offset=0.1, redrawing=redrawing)
    pull = f"{SOFTER}, colour pull 10"
    return Section(
        title="Softer noise",
        rows=[
            base_row(setting),
            ablation_row(setting, SOFTER, settings=softer),
            ablation_row(setting, pull, settings=replace(softer, colour_weight=10.0)),
        ],
        reference=BASE,
        expectations=[
            Expectation("softer noise follows prompts", SOFTER, "prompt", "higher", BASE),
            Expectation("the pull brings colours", pull, "colour", "lower", SOFTER),
        ],
        is_ranked=True,
    )
