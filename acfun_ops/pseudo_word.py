"""Where the pseudo-word stands in a prompt."""

import re

from .errors import ACFunError

# Thai to Myanmar, Hangul (whose particles follow a word directly), Khmer, Chinese, Japanese, Yi.
_WRITTEN_WITHOUT_SPACES = (
    "\u0e00-\u11ff\u1780-\u17ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc"
    "\U00020000-\U0003ffff"
)
_LETTER = rf"[^\W{_WRITTEN_WITHOUT_SPACES}]"


def pseudo_word_pattern(pseudo_word: str) -> re.Pattern[str]:
    """Return a pattern for the pseudo-word as a word of its own: "(S*:1.2)" but not "GRASS*".

    Letters of scripts without spaces may touch it: "一幅S*风格的肖像". "embedding:", the sign of
    textual inversions in ComfyUI, counts as a part of it.

    Raises:
        ACFunError: the pseudo-word is empty, which would stand everywhere.
    """
    if not pseudo_word.strip():
        raise ACFunError("The pseudo-word is empty; expected a word that names the style. Use S*.")
    word = re.escape(pseudo_word)
    return re.compile(rf"(?<!{_LETTER})(?:embedding:\s*)?{word}(?!{_LETTER})")


def has_pseudo_word(prompt: str, pseudo_word: str) -> bool:
    """Tell whether the prompt holds the pseudo-word as a word of its own."""
    return pseudo_word_pattern(pseudo_word).search(prompt) is not None
