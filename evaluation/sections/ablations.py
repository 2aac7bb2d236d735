"""The sections of the report: rivals, parts, strengths, weights, readings and training lengths.

The figures that expectations name are the contract with the bench: ``face`` (higher), ``texture``,
``colour``, ``truth`` and ``leak`` (all lower), ``variety`` and ``prompt`` (higher).
"""

from collections.abc import Sequence
from dataclasses import replace

from acfun_ops.method.injection import PartStrengths

from ..benchmark import Expectation, Row, Section
from .rows import (
    BASE,
    BASE_ROW,
    CONFIG,
    OUR_ROW,
    OURS,
    PAPER,
    PAPER_STEPS,
    PEERS,
    STAGED,
    STAGED_ROW,
    ablation_row,
    config_row,
    make_row,
    papers_config,
)

LENGTHS = (50, 100, 200, 500)
STYLE_WEIGHTS = (0.3, 0.6, 0.8, 1.0, 1.6)
PAPERS_STYLE_WEIGHTS = (0.6, 0.8, 1.0)


def all_sections() -> list[Section]:
    """Return every section, in the order of the report."""
    makers = (rivals, part_ablations, drawing_strengths, style_weights)
    makers += (readings, prompts, insert_variants, training_lengths)
    return [make() for make in makers]


def ablations(
    title: str, rows: Sequence[Row], *expectations: Expectation, is_ranked: bool = False
) -> Section:
    """Return a section of rows that change the ablations' row, which stands first."""
    return Section(
        title=title,
        rows=[BASE_ROW, *rows],
        reference=BASE,
        expectations=expectations,
        is_ranked=is_ranked,
    )


def rivals() -> Section:
    """ACFun and its peers, on the same model, pairs and budget of steps."""
    return Section(
        title="Peers",
        rows=[OUR_ROW, STAGED_ROW, *(make_row(*peer) for peer in PEERS.items())],
        reference=OURS,
        is_ranked=True,
        expectations=[
            Expectation(f"ACFun keeps the face better than {name}", OURS, "face", "higher", name)
            for name in PEERS
        ]
        + [Expectation("the model draws strokes", OURS, "texture", "lower", STAGED)],
    )


def part_ablations() -> Section:
    """Which part brings what (the paper's figures 6 and 8)."""
    alone, encoder, decoder, cfun = "AFun alone", "AFun + encoder", "AFun + decoder", "CFun alone"
    parts = {
        alone: ("abstract",),
        encoder: ("abstract", "encoder"),
        decoder: ("abstract", "decoder"),
        cfun: ("encoder", "middle", "decoder"),
    }
    return ablations(
        "Trained parts",
        [ablation_row(name, parts=trained) for name, trained in parts.items()],
        Expectation("AFun alone has no face", alone, "face", "lower", BASE),
        Expectation("CFun in the encoder adds texture", encoder, "texture", "lower", alone),
        Expectation("CFun in the decoder adds the face", decoder, "face", "higher", alone),
        Expectation("AFun adds to CFun", BASE, "truth", "lower", cfun),
        Expectation("all parts are best", BASE, "truth", "lower", encoder),
        Expectation("all parts are best", BASE, "truth", "lower", decoder),
    )


def drawing_strengths() -> Section:
    """The strengths a user sets at drawing; all rows share one training."""
    rows = []
    for strength in (0.0, 0.5):
        rows.append(ablation_row(f"abstract {strength:g}", abstract_strength=strength))
        for part in ("encoder", "decoder"):
            strengths = PartStrengths(**{part: strength})
            rows.append(ablation_row(f"{part} {strength:g}", strengths=strengths))
    return ablations(
        "Strengths at drawing",
        rows,
        Expectation("less encoder is less texture", "encoder 0", "texture", "higher", BASE),
        Expectation("less decoder is less face", "decoder 0", "face", "lower", BASE),
        Expectation("half is between", "decoder 0.5", "face", "higher", "decoder 0"),
    )


def style_weights() -> Section:
    """What the style's weight trades against the face (the paper's figure 7)."""
    names = {weight: f"style_weight {weight:g}" for weight in STYLE_WEIGHTS}
    low, middle, high = (names[weight] for weight in PAPERS_STYLE_WEIGHTS)
    return Section(
        title="Style weight",
        rows=[config_row(name, style_weight=weight) for weight, name in names.items()],
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


def readings() -> Section:
    """The five readings of eq. 4."""
    others = ("paired", "imagery", "blend")
    return ablations(
        "Readings of the alignment loss",
        [STAGED_ROW, *(config_row(reading, alignment=reading) for reading in others)],
        *(
            Expectation("drawn keeps more of the face", BASE, "face", "higher", reading)
            for reading in others
        ),
        is_ranked=True,
    )


def prompts() -> Section:
    """A description of the face against a bare pseudo-word (the paper's figure 7)."""
    bare = "bare S*"
    return ablations(
        "Prompt",
        [ablation_row(bare, bare=True)],
        Expectation("a bare word leaks the style's person", bare, "leak", "higher", BASE),
        Expectation("a bare word loses the face", bare, "face", "lower", BASE),
        Expectation("a bare word loses the prompt", bare, "prompt", "lower", BASE),
    )


def insert_variants() -> Section:
    """Where CFun sits and what drives it (the paper's figure 8)."""
    attention, both = "in attention", "mean and deviation"
    return ablations(
        "Inserts",
        [config_row(attention, insert_at="attention"), config_row(both, statistics="mean_std")],
        Expectation("inserts in attention leak", attention, "leak", "higher", BASE),
        Expectation("the mean carries content", both, "leak", "higher", BASE),
        Expectation("the mean costs the face", both, "face", "lower", BASE),
    )


def training_lengths() -> Section:
    """How long to train."""
    names = {steps: f"{steps} steps" for steps in LENGTHS}
    shortest, longest = names[LENGTHS[0]], names[LENGTHS[-1]]
    paper = ablation_row(PAPER, config=papers_config(CONFIG))
    rows = [replace(ablation_row(name), steps=steps) for steps, name in names.items()]
    return ablations(
        "Training length",
        [*rows, replace(paper, steps=PAPER_STEPS)],
        Expectation("longer, nearer to the truth", longest, "truth", "lower", shortest),
        Expectation("longer, less variety", longest, "variety", "lower", shortest),
        Expectation("ours keeps more of the face, sooner", BASE, "face", "higher", PAPER),
        Expectation("ours has more of the colours, sooner", BASE, "colour", "lower", PAPER),
        Expectation("ours has more of the texture, sooner", BASE, "texture", "lower", PAPER),
        is_ranked=True,
    )
