"""Fixtures for a headless Chromium on the page of a real ComfyUI with the pack.

They skip, and the summary says so aloud, where ComfyUI, Chromium or Playwright is missing.
COMFYUI_PATH and COMFYUI_FRONTEND choose another ComfyUI and another build of its page.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evaluation.comfyui_host import COMFYUI, is_installed, new_server

if TYPE_CHECKING:
    from comfy_page import ComfyPage
    from comfy_server import ComfyServer
    from playwright.sync_api import Browser

HERE = Path(__file__).resolve().parent
FRONTEND = os.environ.get("COMFYUI_FRONTEND")
PACK_NAME = "acfun"
sys.path.append(str(HERE))

from page_setup import BROWSERS, MODEL_FILES, PAGE, SETTINGS, STYLE_FILE  # noqa: E402


def missing() -> str | None:
    """Return what is missing for these tests and how to get it, None if nothing is."""
    if not is_installed():
        return f"there is no ComfyUI in {COMFYUI}; put one there or set COMFYUI_PATH"
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed: pip install playwright"
    if not any(map(shutil.which, BROWSERS)):
        return "there is no Chromium: apt install chromium"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all tests of this folder where something is missing."""
    reason = missing()
    if reason is None:
        return
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """Yield a running server with the pack and with empty files of the names workflows use."""
    from workflow_files import DOWNLOADS

    models = tmp_path_factory.mktemp("page_models")
    offered = [(download["directory"], name) for name, download in DOWNLOADS.items()]
    for folder, name in [*MODEL_FILES.items(), *offered]:
        (models / folder).mkdir(exist_ok=True)
        (models / folder / name).touch()
    arguments = ["--front-end-root", FRONTEND] if FRONTEND else []
    server = new_server(models, pack_name=PACK_NAME, arguments=arguments)
    (server.styles_dir / STYLE_FILE).touch()
    with server as running:
        running.request("/settings", SETTINGS)
        yield running


@pytest.fixture(scope="module")  # Playwright's event loop would break asyncio in later tests.
def chromium() -> Iterator[Browser]:
    """Yield a headless Chromium."""
    from playwright.sync_api import sync_playwright

    path = next(path for path in map(shutil.which, BROWSERS) if path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def comfy_page(page_server: ComfyServer, chromium: Browser) -> Iterator[ComfyPage]:
    """Yield ComfyUI's page, shared by the tests of a module."""
    from comfy_page import ComfyPage

    page = chromium.new_page(**PAGE)
    opened = ComfyPage(page, page_server.address, "ACFunTrainStyle")
    opened.open()
    yield opened
    page.close()


@pytest.fixture(scope="module")
def prior_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """Yield a running server with the pack, Load Small Prior and previews."""
    from small_prior_graphs import link_small_prior

    models = tmp_path_factory.mktemp("no_models")
    arguments = ["--preview-method", "auto"]
    server = new_server(models, pack_name=PACK_NAME, arguments=arguments)
    link_small_prior(server)
    with server as running:
        running.request("/settings", SETTINGS)
        yield running


@pytest.fixture(scope="module")
def prior_page(prior_server: ComfyServer, chromium: Browser) -> Iterator[ComfyPage]:
    """Yield the page of that server."""
    from comfy_page import ComfyPage

    page = chromium.new_page(**PAGE)
    opened = ComfyPage(page, prior_server.address, "ACFunTrainStyle")
    opened.open()
    yield opened
    page.close()
