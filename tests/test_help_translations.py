"""The help pages in other languages: there, whole, and no older than the English ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "web" / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
LANGUAGES = ("zh", "ja")
CODE = re.compile(r"`([^`]+)`")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
MESSAGE = re.compile(r"^- \*\*(.+?)\*\*")
HEADING = re.compile(r"#+ ")


def blocks_of(page):
    """Return a page's headings, list items and paragraphs, each as one line."""
    blocks = []
    for line in page.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            blocks.append("")
        elif HEADING.match(line) or line.startswith("- ") or not blocks or not blocks[-1]:
            blocks.append(line)
        else:
            blocks[-1] += f" {line.strip()}"
    return [block for block in blocks if block]


def kind_of(block):
    heading = HEADING.match(block)
    return heading[0] if heading else block[:2] if block.startswith("- ") else "text"


def pairs():
    return [pytest.param(p, lang, id=f"{p}-{lang}") for p in PAGES for lang in LANGUAGES]


def translated(page, language):
    english, other = blocks_of(DOCS / f"{page}.md"), blocks_of(DOCS / page / f"{language}.md")
    assert list(map(kind_of, english)) == list(map(kind_of, other)), "other headings or items"
    return list(zip(english, other, strict=True))


def test_every_page_is_there_in_every_language_and_no_other():
    found = {str(path.relative_to(DOCS)) for path in DOCS.glob("*/*.md")}
    assert found == {f"{page}/{language}.md" for page in PAGES for language in LANGUAGES}


@pytest.mark.parametrize(("page", "language"), pairs())
def test_every_heading_item_and_paragraph_is_translated(page, language):
    for english, other in translated(page, language):
        assert other != english
        assert not re.search(r"\b(the|and|with|of)\b", re.sub(r"\*[^*]+\*+|`[^`]+`", "", other))


@pytest.mark.parametrize(("page", "language"), pairs())
def test_names_and_numbers_are_those_of_the_english_page(page, language):
    for english, other in translated(page, language):
        assert set(CODE.findall(english)) == set(CODE.findall(other)), english
        # Japanese writes small counts as digits that English spells out.
        assert set(NUMBER.findall(english)) <= set(NUMBER.findall(other)), english


@pytest.mark.parametrize(("page", "language"), pairs())
def test_explained_messages_are_cited_as_the_node_says_them(page, language):
    section = None
    for english, other in translated(page, language):
        section = english if english.startswith("## ") else section
        if section == "## Errors and remedies" and english.startswith("- "):
            assert MESSAGE.match(other)[1] == MESSAGE.match(english)[1]


def test_the_chinese_readme_names_every_node_and_workflow_by_its_labels():
    text = (ROOT / "README.zh.md").read_text(encoding="utf-8")
    for page in PAGES:
        for name in (f"{page}.md", f"{page}/zh.md"):
            assert blocks_of(DOCS / name)[0].removeprefix("# ") in text
    for workflow in (ROOT / "workflows").glob("*.json"):
        assert workflow.stem in text
