"""Sections of reference: answers that need no model, spliced faces, and the paper's own table."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from evaluation.toy.evaluation_pairs import make_pair

from ..benchmark import Expectation, Images, Method, Row, Section, Task
from ..methods.instantstyle import InstantStyle
from .ablations import BASE, OURS, Setting, ablation_row, base_row, our_row, peer_row

Which = Literal["truth", "face", "style", "spliced"]
# Share of votes in % (ACFun sec. 4, table 1) for the overall impression, the face and the style,
# where the paper's digest has them. InstantStyle is the one on SD1.5; on SDXL overall 11.
VOTES: dict[str, dict[str, float]] = {
    OURS: {"": 54, "face": 63, "style": 29},
    "InstantStyle": {"": 15, "style": 34},
    "DreamStyler": {"": 11},
    "InST-like": {"": 9},
}


@dataclass(frozen=True, kw_only=True)
class KnownAnswer(Method):
    """Hands out a picture of the pair itself: what the figures say of it bounds what they mean."""

    which: Which

    def generate(self, task: Task) -> Images:
        """See Method. The pair's name begins with its number."""
        known = make_pair(int(task.pair.name.split()[0]))
        image = torch.from_numpy(getattr(known, self.which))
        images = image.expand(len(task.noise), -1, -1, -1)
        return images, images


def reference_answers(setting: Setting) -> Section:
    """What the figures say of the true answer, of the photo and of the style picture."""
    answers: dict[str, Which] = {
        "the true answer": "truth",
        "the photo itself": "face",
        "the style picture itself": "style",
    }
    rows = [
        Row(name=name, method=KnownAnswer(which=which), steps=0, sampling=setting.sampling)
        for name, which in answers.items()
    ]
    return Section(title="Known answers", rows=[our_row(setting), *rows], reference=OURS)


def face_splices(setting: Setting) -> Section:
    """A face spliced from two people's photos (the paper: it still gives one coherent face)."""
    spliced, photo = "spliced face", "the spliced photo itself"
    row = KnownAnswer(which="spliced")
    # The paper shows it beside InstantStyle, which sees a photo only where it starts from one.
    rivals = [
        replace(
            peer_row(setting, name),
            name=f"{name}, spliced face",
            method=replace(peer, spliced=True),
            pairs=setting.ablation_pairs,
        )
        for name, peer in setting.peers
        if isinstance(peer, InstantStyle) and peer.strength < 1
    ]
    return Section(
        title="Spliced faces",
        rows=[
            base_row(setting),
            ablation_row(setting, spliced, spliced=True),
            *rivals,
            Row(name=photo, method=row, steps=0, sampling=setting.sampling),
        ],
        reference=BASE,
        expectations=[
            Expectation("the seam is gone", spliced, "seam", "lower", photo),
            Expectation("what was spliced off is lost", spliced, "rank1", "lower", BASE),
            *(
                Expectation("the seam is better closed", spliced, "seam", "lower", rival.name)
                for rival in rivals
            ),
        ],
    )


def papers_table(setting: Setting) -> Section:
    """The paper's table 1 as far as figures can stand for voters."""
    known = dict(setting.peers)
    names = [name for name in VOTES if name in known]
    return Section(
        title="The paper's comparison",
        rows=[our_row(setting), *(peer_row(setting, name) for name in names)],
        reference=OURS,
        is_ranked=True,
        votes=VOTES,
        expectations=[
            Expectation("InstantStyle has more of the style", name, "colour", "lower", OURS)
            for name in names
            if name == "InstantStyle"
        ],
    )
