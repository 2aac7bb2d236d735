"""What is on disk of a training that is asked for: its finished style, or a part to go on from."""

from dataclasses import dataclass

from torch import Tensor

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.style.style import Style, StyleFacts
from ...acfun_ops.style.style_file import load_style, read_facts
from ...acfun_ops.training.run_files import resume_file
from ..schema import log
from .folder import style_files
from .preview_image import preview_path, read_preview
from .style_names import label_of


@dataclass(frozen=True)
class FinishedStyle:
    """A style that was trained before."""

    name: str
    """As Load ACFun Style lists it."""
    style: Style
    """The style."""
    picture: Tensor | None
    """The IMAGE that was saved with it, if there is one."""


def finished_style(facts: StyleFacts, steps: int) -> FinishedStyle | None:
    """Return the style of a run with all its steps, None if there is none.

    One that was saved with a picture comes before others.

    Args:
        facts: of the run: pictures, settings, checkpoint and CLIP vision make its name, and the
            pack's version must be the same.
        steps: that the style must have.
    """
    wanted = {"run": facts.run, "version": facts.version, "steps": steps}
    files = style_files().items()
    for name, path in sorted(files, key=lambda file: not preview_path(file[1]).is_file()):
        if wanted.items() <= read_facts(path).items():
            try:
                style = load_style(path)
            except ACFunError as error:
                log.warning("%s", error)
                continue
            return FinishedStyle(label_of(name, path), style, read_preview(path, style.card))
    return None


def unfinished_style(facts: StyleFacts, steps: int) -> str | None:
    """Return the name, as it is listed, of the longest part of a run that has a ``.resume`` file.

    Whether that file is whole and of the same step is seen only when a training goes on from it.

    Args:
        facts: of the run, as in :func:`finished_style`.
        steps: of the whole run; None is returned if there is no part of fewer.
    """
    longest, label = 0, None
    for name, path in style_files().items():
        if not resume_file(path).is_file():
            continue
        found = read_facts(path)
        learnt = found.get("steps")
        is_same = (found.get("run"), found.get("version")) == (facts.run, facts.version)
        if is_same and isinstance(learnt, int) and longest < learnt < steps:
            longest, label = learnt, label_of(name, path)
    return label
