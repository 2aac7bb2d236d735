"""What the registry gets: comfy-cli's own checks, the packed files, and the links in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/acfun-comfy/ComfyUI-ACFun"
RAW = "https://raw.githubusercontent.com/acfun-comfy/ComfyUI-ACFun/main/"
LINKS = re.compile(r"\]\(([^)\s]+)\)")


def fact(name):
    """Return a text of pyproject.toml by its key; Python 3.10 has no reader of TOML."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(rf'^"?{name}"? = "(.*)"$', text, re.MULTILINE)[1]


def git(*arguments, folder=ROOT):
    return subprocess.run(
        ["git", *map(str, arguments)], cwd=folder, check=True, capture_output=True
    ).stdout


@pytest.fixture(scope="module")
def comfy(tmp_path_factory):
    """Return a function that runs comfy-cli in a copy of the repository, with tracking off."""
    pytest.importorskip("comfy_cli", reason="comfy-cli is not installed; the extra is 'test'")
    home, copy = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("copy")
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    git("init", "--quiet", folder=copy)
    git("add", "--all", folder=copy)
    places = {"HOME": str(home), "USERPROFILE": str(home), "XDG_CONFIG_HOME": str(home)}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "comfy_cli", "--skip-prompt", *arguments],
            cwd=copy,
            env=os.environ | places,
            capture_output=True,
            text=True,
            timeout=300,
        )

    assert run("tracking", "disable").returncode == 0
    run.folder = copy
    return run


@pytest.fixture(scope="module")
def packed(comfy):
    """Return the packed files' contents by name."""
    outcome = comfy("node", "pack")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    with zipfile.ZipFile(comfy.folder / "node.zip") as pack:
        return {name: pack.read(name) for name in pack.namelist()}


@pytest.mark.slow
def test_comfy_cli_validates_the_pack_without_a_warning(comfy):
    outcome = comfy("node", "validate")
    said = outcome.stdout + outcome.stderr
    assert outcome.returncode == 0, said
    assert "All validation checks passed" in said
    assert "arning" not in said


@pytest.mark.slow
def test_the_pack_holds_what_comfyui_needs_and_no_tests(packed):
    folders = {PurePosixPath(name).parts[0] for name in packed}
    assert {"__init__.py", "acfun_ops", "nodes", "web", "locales", "workflows"} <= folders
    assert folders.isdisjoint({"tests", "evaluation", "branding", ".ci", ".git", ".github"})
    for page in ("CONTRIBUTING.md", "SECURITY.md", "Makefile", "docs/tuning.md"):
        assert (ROOT / page).is_file() and page not in packed
    assert "web/docs/ACFunTrainStyle.md" in packed
    assert sum(map(len, packed.values())) < 20 * 2**20


@pytest.mark.slow
def test_no_relative_link_in_the_packed_pages_is_dead(packed):
    pages = [name for name in packed if name.endswith(".md")]
    assert "README.md" in pages
    for page in pages:
        for link in LINKS.findall(packed[page].decode()):
            if not re.match(r"[a-z]+:|#", link):
                # ComfyUI's page looks for pictures of all languages from the folder docs.
                folder = "web/docs" if page.startswith("web/docs/") else PurePosixPath(page).parent
                relative = unquote(link.partition("#")[0])
                target = os.path.normpath(PurePosixPath(folder) / relative)
                found = PurePosixPath(target).as_posix()
                assert any(n == found or n.startswith(f"{found}/") for n in packed), (page, link)


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_links_of_the_readme_work_on_an_index_page(name):
    links = LINKS.findall((ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not re.match(r"[a-z]+:|#", link)] == []


def test_the_registrys_name_is_as_its_specification_advises():
    name = fact("name")
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name) and len(name) < 100
    assert "comfy" not in name
    for workflow in (ROOT / "workflows").glob("*.json"):
        content = json.loads(workflow.read_text(encoding="utf-8"))
        ours = [n["properties"] for n in content["nodes"] if n["type"].startswith("ACFun")]
        assert ours and all(properties["cnr_id"] == name for properties in ours), workflow.name


def test_icon_and_banner_have_the_sides_that_the_registry_asks_for():
    sides = {"Icon": lambda w, h: w == h <= 400, "Banner": lambda w, h: 9 * w == 21 * h}
    for key, fit in sides.items():
        drawing = (ROOT / fact(key).removeprefix(RAW)).read_text(encoding="utf-8")
        width, height = map(int, re.search(r'width="(\d+)" height="(\d+)"', drawing).groups())
        assert fit(width, height), key


def test_addresses_are_those_of_the_repository():
    for key in ("Repository", "Documentation", "Bug Tracker"):
        assert fact(key).startswith(REPOSITORY)
