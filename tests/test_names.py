"""Functions are named by a verb, or by a noun for what they return; no participle, no preposition.

The words that Python itself uses so are fine: ``to_``, ``from_``, ``with_``, ``on_``, ``is_``,
``has_``, ``as_``.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("acfun_ops", "nodes", "evaluation")
ENDINGS = re.compile(r"(ed|ing|wn)$")
# Nouns and verbs that end like a participle.
NOUNS = {
    *("sampling", "training", "learning", "pretraining", "checkpointing", "stylings", "string"),
    *(
        "embed",
        "embedding",
        "encoding",
        "feed",
        "need",
        "red",
        "seed",
        "speed",
        "speeding",
        "unembed",
    ),
    *(
        "bring",
        "painting",
        "sing",
        "spring",
        "thing",
        "timing",
        "warning",
        "heading",
        "ring",
        "lining",
    ),
    *("engraving", "drawing", "setting"),
}
PARTICIPLES = {
    *("begun", "bent", "borne", "bound", "bought", "brought", "built", "caught", "chosen", "cut"),
    *("done", "driven", "fallen", "felt", "foretold", "forgotten", "fought", "found", "frozen"),
    *("given", "gone", "held", "hidden", "kept", "laid", "learnt", "led", "left", "lent", "lost"),
    *("made", "meant", "met", "paid", "put", "read", "risen", "said", "seen", "sent", "shaken"),
    *("sold", "sought", "spent", "spoken", "split", "spread", "stood", "struck", "sung", "swept"),
    *("taken", "taught", "thought", "told", "torn", "undone", "won", "worn", "woven", "written"),
}
VERBS_TOO = {"cut", "put", "read", "split", "spread"}  # Read as imperatives.
PREPOSITIONS = {
    *("about", "above", "across", "after", "against", "along", "among", "apart", "around", "at"),
    *("before", "behind", "below", "beneath", "beside", "besides", "between", "beyond", "by"),
    *("despite", "down", "during", "for", "in", "inside", "into", "like", "near", "of", "off"),
    *("out", "outside", "over", "past", "per", "since", "than", "through", "till", "toward"),
    *("towards", "under", "until", "up", "upon", "versus", "via", "within", "without"),
}
# A name of the public API: ``with styled(pipe, style) as encode``.
PUBLIC = {"styled"}
# Words that make no name of a function either, seen here before.
OTHERS = {"late", "too", "less", "never", "why", "no", "some", "another", "whole"}


def is_misnamed(name: str) -> bool:
    """Tell whether a function's first word is a participle or a preposition."""
    if name.startswith("__") or name in PUBLIC:
        return False
    word = name.strip("_").split("_")[0]
    if word in NOUNS or word in VERBS_TOO:
        return False
    listed = word in PARTICIPLES or word in PREPOSITIONS or word in OTHERS
    return listed or (len(word) > 3 and ENDINGS.search(word) is not None)


def misnamed(package: str) -> list[str]:
    """Return the functions of a package that are named so, as ``file:line name``."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_misnamed(node.name):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_function_is_named_by_a_participle_or_a_preposition(package):
    assert misnamed(package) == []


def test_word_lists_tell_names_apart():
    bad = (
        "borrowed",
        "_kept_runs",
        "at_most",
        "of",
        "under",
        "told",
        "drawn_pair",
        "doing",
        "late",
    )
    good = ("read_style", "to_half", "from_file", "sampling_sigmas", "embed", "put_on", "__init__")
    assert [name for name in bad if not is_misnamed(name)] == []
    assert [name for name in good if is_misnamed(name)] == []


if __name__ == "__main__":
    for each in PACKAGES:
        print(*misnamed(each), sep="\n")  # noqa: T201
