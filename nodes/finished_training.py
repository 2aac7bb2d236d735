"""Trainings that need not be repeated: the finished style of the same run, found on disk."""

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.style.style import Style, StyleFacts
from ..acfun_ops.style.style_file import load_style, read_facts
from .sockets import log
from .style_folder import style_files
from .style_names import label_of


def finished_style(facts: StyleFacts, steps: int) -> tuple[str, Style] | None:
    """Return the style of a run with all its steps, and its listed name, None if there is none.

    Args:
        facts: of the run: pictures, settings, checkpoint and CLIP vision make its name, and the
            pack's version must be the same.
        steps: that the style must have.
    """
    wanted = {"run": facts.run, "version": facts.version, "steps": steps}
    for name, path in style_files().items():
        if wanted.items() <= read_facts(path).items():
            try:
                return label_of(name, path), load_style(path)
            except ACFunError as error:
                log.warning("%s", error)
    return None
