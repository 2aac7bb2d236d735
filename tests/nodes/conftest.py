"""Fixtures on a real ComfyUI, from COMFYUI_PATH or ~/comfy/ComfyUI; skips all tests without it.

ComfyUI stands first on sys.path, so that `import nodes` is its module and not the pack's folder.
Its options are its defaults, with a temporary base directory and, unless ACFUN_TESTS_ON_GPU is
set, the CPU forced; pytest's arguments are not read, because ComfyUI reads sys.argv only in its
own main.py.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from comfy_library import ComfyLibrary
    from comfy_server import ComfyServer
    from models_dir import ModelsDir
    from pack_nodes import PackNodes

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")).expanduser()
OLD_COMFYUI = Path(os.environ.get("COMFYUI_OLD_PATH", "~/comfy/ComfyUI-0.3.64")).expanduser()
HAS_COMFYUI = (COMFYUI / "main.py").is_file()
REASON = (
    f"there is no ComfyUI in {COMFYUI}. Put one there, or set COMFYUI_PATH to its folder, "
    "and install its requirements.txt"
)
PREVIEWS = ("--preview-method", "latent2rgb")

base_folder = tempfile.TemporaryDirectory(prefix="comfyui-test-models-")

if HAS_COMFYUI:
    sys.path.insert(0, str(COMFYUI))
    import comfy.cli_args
    import utils  # noqa: F401  (before the old nodes.py puts the folder of comfy/utils.py in front)

    comfy.cli_args.args.cpu = "ACFUN_TESTS_ON_GPU" not in os.environ
    comfy.cli_args.args.base_directory = base_folder.name


class SkippedModule(pytest.File):
    """A test file that cannot be imported without ComfyUI; its tests are read from its source."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one skipped test for each test function."""
        for node in ast.walk(ast.parse(self.path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield SkippedTest.from_parent(self, name=node.name)


class SkippedTest(pytest.Item):
    """A test that was not run because ComfyUI is missing."""

    def runtest(self) -> None:
        """Skip."""
        pytest.skip(REASON)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> SkippedModule | None:
    """Without ComfyUI, collect a test file without importing it."""
    if HAS_COMFYUI:
        return None
    return SkippedModule.from_parent(parent, path=module_path)


def pytest_unconfigure() -> None:
    """Remove the tiny models."""
    base_folder.cleanup()


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    """Return the folder of the ComfyUI under test."""
    return COMFYUI


@pytest.fixture(scope="session")
def models_dir() -> ModelsDir:
    """Return the session's folder of tiny models; each is written when first asked for."""
    from models_dir import ModelsDir

    return ModelsDir(Path(base_folder.name) / "models")


@pytest.fixture(scope="session")
def server(models_dir: ModelsDir) -> Iterator[ComfyServer]:
    """Yield a running server of the ComfyUI under test, with the pack and with previews."""
    from comfy_server import ComfyServer

    with ComfyServer(COMFYUI, models_dir.root, pack=ROOT, arguments=PREVIEWS) as running:
        yield running


@pytest.fixture(scope="session")
def old_server(models_dir: ModelsDir) -> Iterator[ComfyServer]:
    """Yield a running server of the oldest supported ComfyUI, with the pack and previews."""
    if not (OLD_COMFYUI / "main.py").is_file():
        pytest.skip(f"There is no ComfyUI in {OLD_COMFYUI}; COMFYUI_OLD_PATH sets the folder.")
    from comfy_server import ComfyServer

    with ComfyServer(OLD_COMFYUI, models_dir.root, pack=ROOT, arguments=PREVIEWS) as running:
        yield running


@pytest.fixture(scope="module", params=["server", "old_server"])
def either_server(request: pytest.FixtureRequest) -> ComfyServer:
    """Return the one and then the other of the running servers."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def comfy(models_dir: ModelsDir) -> ComfyLibrary:
    """Return ComfyUI in this process."""
    from comfy_library import ComfyLibrary

    return ComfyLibrary(models_dir)


@pytest.fixture(scope="session")
def model(comfy: ComfyLibrary) -> Any:
    """Return the tiny SD1 checkpoint's MODEL."""
    return comfy.checkpoint("sd1")[0]


@pytest.fixture(scope="session")
def prompts(comfy: ComfyLibrary) -> tuple[Any, Any]:
    """Return a positive and a negative CONDITIONING of its CLIP."""
    from stock_nodes import encode

    clip = comfy.checkpoint("sd1")[1]
    return encode(clip, "a woman"), encode(clip, "a house by the sea")


@pytest.fixture(scope="session")
def pack(comfy: ComfyLibrary) -> ModuleType:
    """Return the pack, imported as `acfun_pack` the way ComfyUI imports a folder of custom nodes.

    Its modules are then `acfun_pack.nodes.train` and so on. They use `acfun_pack.acfun_ops`, whose
    classes are not those of a plain `import acfun_ops`.
    """
    spec = importlib.util.spec_from_file_location("acfun_pack", ROOT / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["acfun_pack"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def acfun(pack: ModuleType, comfy: ComfyLibrary) -> PackNodes:
    """Return the pack's nodes in this process, with styles trained on the tiny models."""
    from pack_nodes import PackNodes

    return PackNodes(pack, comfy)
