"""Other packs of ComfyUI's custom_nodes, for tests that skip where one is missing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import folder_paths
import pytest


def folder_of(name: str) -> Path:
    """Return a pack's folder in ComfyUI's custom_nodes, or skip the test."""
    folder = Path(folder_paths.__file__).parent / "custom_nodes" / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not in ComfyUI's custom_nodes")
    return folder


def load_pack(name: str, folder: Path | None = None) -> ModuleType:
    """Import a pack, from a folder or ComfyUI's custom_nodes, or skip the test."""
    folder = folder or folder_of(name)
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    pack = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(pack)
    except ModuleNotFoundError as error:
        pytest.skip(f"{name} needs what is not installed: {error}")
    return pack
