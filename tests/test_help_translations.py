"""The help pages: short, and in other languages there, whole, no older than the English ones."""

from __future__ import annotations

import re
import unicodedata
from math import ceil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "web" / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
LANGUAGES = ("zh", "ja")
CODE = re.compile(r"`([^`]+)`")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
PICTURE = re.compile(r"^!\[(.+)\]\(\.\./pictures/(.+)\)$", re.MULTILINE)
HEADING = re.compile(r"#+ ")
LONG_PAGE = "https://github.com/acfun-comfy/ComfyUI-ACFun/blob/main/docs/nodes/{}.md"
# Of the panel at 1366 x 768, where it is 235 x 632 pixels and a line 20: two screens.
MOST_LINES = 59
LETTERS, LETTERS_OF_ITEM, LETTERS_OF_TITLE = 33, 28, 20


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


def line_count(page):
    """Return how many lines of the help panel a page takes, gaps included."""
    lines = 0.0
    for block in blocks_of(page):
        text = re.sub(r"\]\(.+?\)|^(#+|-) |[`*[]", "", block)
        letters = sum(1.7 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
        if block.startswith("# "):
            lines += 1.7 * ceil(letters / LETTERS_OF_TITLE)
        elif block.startswith("#"):
            lines += 2.6
        elif block.startswith("- "):
            lines += ceil(letters / LETTERS_OF_ITEM) + 0.4
        elif block.startswith("!["):
            lines += 15 if "load_style" in block else 7
        else:
            lines += ceil(letters / LETTERS) + 0.7
    return lines


@pytest.mark.parametrize(
    "page", sorted(DOCS.rglob("*.md")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_a_help_page_has_two_screens_and_leads_to_the_long_one(page):
    assert line_count(page) <= MOST_LINES
    text = page.read_text(encoding="utf-8")
    node = page.stem if page.parent == DOCS else page.parent.name
    assert LONG_PAGE.format(node) in text
    headings = [block for block in blocks_of(page) if block.startswith("## ")]
    assert len(headings) == 2  # What goes wrong comes first.
    if page.parent == DOCS:
        assert headings == ["## If something is wrong", "## What to set"]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_the_same_pictures_in_every_language(page):
    english = PICTURE.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    assert english
    for _, name in english:
        assert (ROOT / "web" / "pictures" / name).is_file()
    for language in LANGUAGES:
        other = PICTURE.findall((DOCS / page / f"{language}.md").read_text(encoding="utf-8"))
        assert [name for _, name in other] == [name for _, name in english]


def test_the_chinese_readme_names_every_node_and_workflow_by_its_labels():
    text = (ROOT / "README.zh.md").read_text(encoding="utf-8")
    for page in PAGES:
        for name in (f"{page}.md", f"{page}/zh.md"):
            assert blocks_of(DOCS / name)[0].removeprefix("# ") in text
    for workflow in (ROOT / "workflows").glob("*.json"):
        assert workflow.stem in text


def sections_of(name):
    """Return a page's sections; the first is what stands before the first heading."""
    return re.split(r"^## ", (ROOT / name).read_text(encoding="utf-8"), flags=re.M)


def test_the_chinese_readme_follows_the_english_one():
    for one, other in zip(sections_of("README.md"), sections_of("README.zh.md"), strict=True):
        heading = one.split("\n")[0]
        assert links_but_to_the_other(one) == links_but_to_the_other(other), heading
        for line in ("\n- ", "\n|", "\n```", "\n1. "):
            assert one.count(line) == other.count(line), heading
        assert set(NUMBER.findall(one)) <= set(NUMBER.findall(other)), heading
        assert code_of(one) == code_of(other), heading


def code_of(text):
    """Return the blocks of code, and what is set as code between them."""
    parts = text.split("```")
    return parts[1::2], set(CODE.findall("".join(parts[::2])))


def links_but_to_the_other(text):
    others = ("README.md", "README.zh.md")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    return [link for link in links if link.rpartition("/")[2] not in others]
