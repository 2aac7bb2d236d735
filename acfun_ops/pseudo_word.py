"""Where the pseudo-word stands in a prompt."""

import re

from .errors import ACFunError


def pseudo_word_pattern(pseudo_word: str) -> re.Pattern[str]:
    """Return a pattern for the pseudo-word as a word of its own: "(S*:1.2)" but not "GRASS*".

    Raises:
        ACFunError: the pseudo-word is empty, which would stand everywhere.
    """
    if not pseudo_word.strip():
        raise ACFunError("The pseudo-word is empty; expected a word that names the style. Use S*.")
    return re.compile(rf"(?<!\w){re.escape(pseudo_word)}(?!\w)")


def has_pseudo_word(prompt: str, pseudo_word: str) -> bool:
    """Tell whether the prompt holds the pseudo-word as a word of its own."""
    return pseudo_word_pattern(pseudo_word).search(prompt) is not None
