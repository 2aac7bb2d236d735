"""The sections on the product's own choices: what each default is measured against."""

from dataclasses import replace

from .ablations import DRAWN, OURS, Setting, ablation_row, drawn_config, drawn_row, our_row
from .bench import Expectation, Row, Section

SHARPER, DRAWN_WEIGHT = "redrawn at temperature 4", "drawn, style_weight 1"
COLOURS = "drawn, twice the colour pull"
RANKS = (8, 128)
LEARNING_RATES = (1e-4, 3e-4, 1e-3, 1e-2)


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


def drawn_choices(setting: Setting) -> Section:
    """Choices of the reading ``drawn``: how the picture between is drawn, and what pulls to it."""
    config = drawn_config(setting)
    changed = {
        SHARPER: {"config": config, "variant": "sharper redrawing"},
        "redrawn in 20 steps": {"config": config, "variant": "longer redrawing"},
        DRAWN_WEIGHT: {"config": replace(config, style_weight=1.0)},
        COLOURS: {"config": config, "variant": "double colour pull"},
    }
    return Section(
        title="Drawn by the model",
        rows=[drawn_row(setting)]
        + [ablation_row(setting, name, **changes) for name, changes in changed.items()],
        reference=DRAWN,
        is_ranked=True,
        expectations=[
            Expectation("sharper attention, more strokes", SHARPER, "texture", "lower", DRAWN),
            Expectation("more weight, more strokes", DRAWN_WEIGHT, "texture", "lower", DRAWN),
            Expectation("the pull brings colours", COLOURS, "colour", "lower", DRAWN),
        ],
    )


def learning_rates(setting: Setting) -> Section:
    """The step size."""
    rows: list[Row] = [our_row(setting)]
    for rate in LEARNING_RATES:
        config = replace(setting.config, learning_rate=rate)
        rows.append(ablation_row(setting, f"learning rate {rate:g}", config=config))
    return Section(title="Learning rate", rows=rows, reference=OURS, is_ranked=True)
