"""The nodes' long pages against the code: the messages they explain are those that users meet."""

from __future__ import annotations

import re

import pytest
from workflow_prompts import ROOT

PAGES = sorted((ROOT / "docs" / "nodes").glob("*.md"))
SOURCES = [*(ROOT / "nodes").rglob("*.py"), *(ROOT / "acfun_ops").rglob("*.py")]
SECTIONS = ("Input", "Output", "Errors and remedies", "Example")
EXPLAINED = re.compile(r"^- \*\*(.+?)\*\*[ :]", re.MULTILINE)
JOINED_LITERALS = re.compile(r'"\s*f?"')  # What Python puts together from two lines.


@pytest.fixture(scope="module")
def source():
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    return re.sub(r"\{[^{}]*\}", "...", JOINED_LITERALS.sub("", code))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_explained_messages_are_in_the_code(page, source):
    text = page.read_text(encoding="utf-8")
    messages = EXPLAINED.findall(text.split("## Errors and remedies")[1])
    assert messages
    for message in messages:
        assert all(part in source for part in re.split(r" ?\.\.\.[ ;]?", message)), message


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_has_all_sections(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert all(f"\n## {section}" in text for section in SECTIONS)
    assert "Cancel" in text
