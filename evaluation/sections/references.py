"""Rows that need no model: the true answer, and the two pictures that a method is given."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from evaluation.toy.evaluation_pairs import held_out_pair

from ..benchmark import Expectation, LearnsNothing, Pair, Row, Sampling, Section
from ..methods.instantstyle import InstantStyle
from .ablations import OURS, Setting, ablation_row, our_row, peer_row

Which = Literal["truth", "face", "style", "spliced"]


@dataclass(frozen=True, kw_only=True)
class KnownAnswer(LearnsNothing):
    """Hands out a picture of the pair itself: what the figures say of it bounds what they mean."""

    which: Which

    def generate(
        self,
        backbone: DiffusersBackbone,
        pair: Pair,
        learnt: Path,
        noise: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor]:
        """See Method. The pair's name begins with its number."""
        known = held_out_pair(int(pair.name.split()[0]))
        pictures = torch.from_numpy(getattr(known, self.which)).expand(len(noise), -1, -1, -1)
        return pictures, pictures


def known_answers(setting: Setting) -> Section:
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


def spliced_faces(setting: Setting) -> Section:
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
            our_row(setting),
            ablation_row(setting, spliced, spliced=True),
            *rivals,
            Row(name=photo, method=row, steps=0, sampling=setting.sampling),
        ],
        reference=OURS,
        expectations=[
            Expectation("the seam is gone", spliced, "seam", "lower", photo),
            Expectation("what was spliced off is lost", spliced, "rank1", "lower", OURS),
            *(
                Expectation("the seam is better closed", spliced, "seam", "lower", rival.name)
                for rival in rivals
            ),
        ],
    )
