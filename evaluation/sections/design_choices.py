"""The sections on the product's own choices: what each default is measured against."""

from dataclasses import replace

from ..benchmark import Expectation, Row, Section
from .ablations import OURS, Setting, ablation_row, our_row

SHARPER, UNGUIDED, ALONE = (
    "redrawn at temperature 4",
    "redrawn unguided",
    "without the photo's shape",
)
COLOURS = "twice the colour pull"
RANKS = (8, 128)
LEARNING_RATES = (3e-4, 1e-3, 1e-2)


def design_choices(setting: Setting) -> Section:
    """Choices of DESIGN undone one at a time."""
    undone = {
        "pooled style tokens": {"variant": "pooled tokens"},
        "S* not learnt": {"variant": "fixed word"},
        "AFun without residual": {"variant": "no residual"},
        "independent noise levels": {"variant": "independent levels"},
        "white noise": {"variant": "white noise"},
        "no colour pull": {"variant": "no colour pull"},
    }
    rows = [our_row(setting)]
    rows += [ablation_row(setting, name, **changes) for name, changes in undone.items()]
    for rank in RANKS:
        config = replace(setting.config, rank=rank)
        rows.append(ablation_row(setting, f"rank {rank}", config=config))
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
    rows: list[Row] = [our_row(setting)]
    for rate in LEARNING_RATES:
        config = replace(setting.config, learning_rate=rate)
        rows.append(ablation_row(setting, f"learning rate {rate:g}", config=config))
    return Section(title="Learning rate", rows=rows, reference=OURS, is_ranked=True)
