"""The paper's user study beside figures: on how many pairs each of its systems is the best."""

from ..benchmark import Expectation, Section
from .ablations import OURS, Setting, our_row, peer_row

# Share of votes in % (ACFun sec. 4, table 1) for the overall impression, the face and the style,
# where the paper's digest has them. InstantStyle is the one on SD1.5; on SDXL overall 11.
VOTES: dict[str, dict[str, float]] = {
    OURS: {"": 54, "face": 63, "style": 29},
    "InstantStyle": {"": 15, "style": 34},
    "DreamStyler": {"": 11},
    "InST-like": {"": 9},
}


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
