"""The pages for readers: README is short, and links to our files and headings lead somewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/acfun-comfy/ComfyUI-ACFun"
# Addresses of files of ours, on GitHub's page or raw, and of the repository's own page.
OURS = re.compile(
    rf"{REPOSITORY}/(?:blob|tree|raw)/main/|https://raw\.githubusercontent\.com"
    r"/acfun-comfy/ComfyUI-ACFun/main/"
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FORM = re.compile(rf"{REPOSITORY}/issues/new\?template=([\w.-]+)")
KNOWN_FROM = re.compile(r"paper|toy|practice elsewhere: \[|\[counted\]\(")
FOLDERS = ("", "docs", "evaluation", "evaluation/toy", "acfun_ops/method", "docs/nodes", "web/docs")


def pages():
    found = [path for folder in FOLDERS for path in (ROOT / folder).glob("*.md")]
    return [*found, *(ROOT / "web" / "docs").glob("*/*.md")]


def prose_of(path):
    return CODE.sub("", path.read_text(encoding="utf-8"))


def count_words(text):
    """Return what ``wc -w`` counts without code blocks and link addresses."""
    return len(LINK.sub("]", CODE.sub("", text)).split())


def anchors_of(path):
    """Return the anchors of a page's headings as GitHub names them."""
    texts = [LINK.sub("", text).replace("[", "") for text in HEADING.findall(prose_of(path))]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def target_of(page, link):
    """Return the file of ours that a link names, None if it is another's."""
    address = unquote(link.partition("#")[0])
    if address == REPOSITORY:
        return ROOT / "README.md"
    if OURS.match(address):
        return ROOT / OURS.sub("", address)
    if re.match(r"[a-z]+:", address):
        return None
    if not address:
        return page
    # ComfyUI's page looks for the images of all languages from the folder docs.
    folder = ROOT / "web" / "docs" if "web/docs" in page.as_posix() else page.parent
    return Path(os.path.normpath(folder / address))


def is_dead(page, link):
    form = FORM.match(link)
    if form:
        return not (ROOT / ".github" / "ISSUE_TEMPLATE" / form[1]).is_file()
    target, anchor = target_of(page, link), unquote(link.partition("#")[2])
    if target is None:
        return False
    if not target.exists():
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in anchors_of(target)


def dead_links(page):
    return [link for link in LINK.findall(prose_of(page)) if is_dead(page, link)]


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_to_us_leads_to_a_file_and_a_heading(page):
    assert dead_links(page) == []


def test_dead_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b` c\n[1](#a-b-c) [2](#a) [3](page.md#a-b-c) [4](no.md) [5](https://example.org/no)\n"
        f"[6]({REPOSITORY}/blob/main/README.md#install) [7]({REPOSITORY}/blob/main/README.md#no)\n"
        f"[8]({REPOSITORY}/issues/new?template=no.yml)\n```\n[9](no)\n```\n",
        encoding="utf-8",
    )
    assert dead_links(page) == [
        "#a",
        "no.md",
        f"{REPOSITORY}/blob/main/README.md#no",
        f"{REPOSITORY}/issues/new?template=no.yml",
    ]


def test_the_readme_is_read_in_a_few_minutes():
    assert count_words("one [two three](https://four) five\n```\nsix seven\n```\n") == 4
    words = count_words((ROOT / "README.md").read_text(encoding="utf-8"))
    assert 900 <= words <= 1300


def test_every_advice_of_the_readme_says_how_it_is_known():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    heads = [n for n, row in enumerate(rows) if row.endswith("| known from |")]
    assert len(heads) == 2
    for head in heads:
        for row in rows[head + 2 :]:
            if row.count("|") != rows[head].count("|"):
                break
            assert KNOWN_FROM.search(row.split("|")[-2]), row


def test_the_readme_names_the_two_commands_of_developers():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "`bash tests/run main-job`" in text and "`bash tests/run`" in text


def test_images_of_the_readme_are_small_enough_to_load_at_once():
    for page in ("README.md", "README.zh.md"):
        images = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / page).read_text(encoding="utf-8"))
        ours = [target_of(ROOT / page, link) for link in images if OURS.match(link)]
        assert len(ours) == 2
        assert all(path.stat().st_size <= 300_000 for path in ours), page
