"""The sections on the product's own choices: what each default is measured against."""

from dataclasses import replace

from ..benchmark import Expectation, Section
from ..methods.acfun import RELEASE_0_2
from .ablations import ablations
from .rows import BASE, ablation_row, config_row

SHARPER, UNGUIDED, ALONE = (
    "redrawn at temperature 4",
    "redrawn unguided",
    "without the photo's shape",
)
COLOURS = "twice the colour pull"
SOFTER = "offset noise 0.1, redrawn in 20 steps"
RANKS = (8, 128)
LEARNING_RATES = (3e-4, 1e-3, 1e-2)


def design_choices() -> Section:
    """Choices of DESIGN undone one at a time."""
    undone = {
        "pooled style tokens": "pooled tokens",
        "S* not learnt": "fixed word",
        "AFun without residual": "no residual",
        "independent noise levels": "independent levels",
        "white noise": "white noise",
        "no colour pull": "no colour pull",
    }
    rows = [ablation_row(name, variant=variant) for name, variant in undone.items()]
    return ablations(
        "Design choices",
        [*rows, *(config_row(f"rank {rank}", rank=rank) for rank in RANKS)],
        *(Expectation(f"{name} is no better", name, "structure", "lower", BASE) for name in undone),
        Expectation("white noise tints the seeds", "white noise", "colour", "higher", BASE),
        Expectation("the pull brings colours", "no colour pull", "colour", "higher", BASE),
        is_ranked=True,
    )


def restyle_choices() -> Section:
    """Choices of the reading ``drawn``: how the picture between is drawn, and what pulls to it."""
    variants = {
        UNGUIDED: "unguided redrawing",
        SHARPER: "sharper redrawing",
        "redrawn in 20 steps": "longer redrawing",
        ALONE: "no handover",
        COLOURS: "double colour pull",
    }
    return ablations(
        "Drawn by the model",
        [ablation_row(name, variant=variant) for name, variant in variants.items()],
        Expectation("guidance keeps the face", UNGUIDED, "rank1", "lower", BASE),
        Expectation("sharper attention, more strokes", SHARPER, "texture", "lower", BASE),
        Expectation("the photo's shape keeps the face", ALONE, "rank1", "lower", BASE),
        Expectation("the photo's shape costs strokes", ALONE, "texture", "lower", BASE),
        Expectation("the pull brings colours", COLOURS, "colour", "lower", BASE),
        is_ranked=True,
    )


def learning_rates() -> Section:
    """The step size."""
    rows = [config_row(f"learning rate {rate:g}", learning_rate=rate) for rate in LEARNING_RATES]
    return ablations("Learning rate", rows, is_ranked=True)


def softer_noise() -> Section:
    """Noise and redrawing as on Stable Diffusion (``docs/real-weights.md``)."""
    redrawing = replace(RELEASE_0_2.redrawing, steps=20)
    softer = replace(RELEASE_0_2, noise_offset=0.1, redrawing=redrawing)
    pull = f"{SOFTER}, colour pull 10"
    pulled = ablation_row(pull, settings=replace(softer, colour_weight=10.0))
    return ablations(
        "Softer noise",
        [ablation_row(SOFTER, settings=softer), pulled],
        Expectation("softer noise follows prompts", SOFTER, "prompt", "higher", BASE),
        Expectation("the pull brings colours", pull, "colour", "lower", SOFTER),
        is_ranked=True,
    )
