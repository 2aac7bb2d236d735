"""Sections of reference: answers that need no model, spliced faces, and the paper's own table."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from evaluation.toy.evaluation_pairs import make_pair

from ..benchmark import Expectation, Images, Method, Section, Task
from ..methods.instantstyle import InstantStyle
from .ablations import ablations
from .rows import ABLATION_PAIRS, BASE, INSTANT_STYLE, OUR_ROW, OURS, PEERS, ablation_row, make_row

# Share of votes in % (ACFun sec. 4, table 1) for the overall impression, the face and the style,
# where the paper's digest has them. InstantStyle is the one on SD1.5; on SDXL overall 11.
VOTES: dict[str, dict[str, float]] = {
    OURS: {"": 54, "face": 63, "style": 29},
    INSTANT_STYLE: {"": 15, "style": 34},
    "DreamStyler": {"": 11},
    "InST-like": {"": 9},
}


@dataclass(frozen=True, kw_only=True)
class KnownAnswer(Method):
    """Hands out a picture of the pair itself: what the figures say of it bounds what they mean."""

    which: Literal["truth", "face", "style", "spliced"]

    def generate(self, task: Task) -> Images:
        """See Method. The pair's name begins with its number."""
        known = make_pair(int(task.pair.name.split()[0]))
        image = torch.from_numpy(getattr(known, self.which))
        images = image.expand(len(task.noise), -1, -1, -1)
        return images, images


def reference_answers() -> Section:
    """What the figures say of the true answer, of the photo and of the style picture."""
    rows = [
        make_row("the true answer", KnownAnswer(which="truth")),
        make_row("the photo itself", KnownAnswer(which="face")),
        make_row("the style picture itself", KnownAnswer(which="style")),
    ]
    return Section(title="Known answers", rows=[OUR_ROW, *rows], reference=OURS)


def face_splices() -> Section:
    """A face spliced from two people's photos (the paper: it still gives one coherent face)."""
    spliced, photo = "spliced face", "the spliced photo itself"
    # The paper shows it beside InstantStyle, which sees a photo only where it starts from one.
    rivals = [
        make_row(f"{name}, spliced face", replace(peer, spliced=True), ABLATION_PAIRS)
        for name, peer in PEERS.items()
        if isinstance(peer, InstantStyle) and peer.strength < 1
    ]
    known = make_row(photo, KnownAnswer(which="spliced"))
    return ablations(
        "Spliced faces",
        [ablation_row(spliced, spliced=True), *rivals, known],
        Expectation("the seam is gone", spliced, "seam", "lower", photo),
        Expectation("what was spliced off is lost", spliced, "rank1", "lower", BASE),
        *(
            Expectation("the seam is better closed", spliced, "seam", "lower", rival.name)
            for rival in rivals
        ),
    )


def papers_table() -> Section:
    """The paper's table 1 as far as figures can stand for voters."""
    return Section(
        title="The paper's comparison",
        rows=[OUR_ROW, *(make_row(name, PEERS[name]) for name in VOTES if name != OURS)],
        reference=OURS,
        is_ranked=True,
        votes=VOTES,
        expectations=[
            Expectation(
                "InstantStyle has more of the style", INSTANT_STYLE, "colour", "lower", OURS
            )
        ],
    )
