"""Fixtures on a real ComfyUI, from COMFYUI_PATH or ~/comfy/ComfyUI; skips all tests without it.

ComfyUI's options are its defaults, with a temporary base directory and, unless ACFUN_TESTS_ON_GPU
is set, the CPU forced.
"""

from __future__ import annotations

import ast
import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from comfy_process import SHARED_MODEL_FOLDERS

from evaluation import comfyui_host
from evaluation.comfyui_host import COMFYUI, OLD_COMFYUI

if TYPE_CHECKING:
    from comfy_library import ComfyLibrary
    from comfy_server import ComfyServer
    from models_dir import ModelsDir
    from pack_nodes import PackNodes

HAS_COMFYUI = comfyui_host.is_installed()
REASON = (
    f"there is no ComfyUI in {COMFYUI}. Put one there, or set COMFYUI_PATH to its folder, "
    "and install its requirements.txt"
)
PREVIEWS = ("--preview-method", "latent2rgb")
SUPPORT = Path(__file__).resolve().parent / "support"

# ComfyUI's folder in this process. Its tiny models lie where all processes of a run find them.
base_folder = tempfile.TemporaryDirectory(prefix="comfyui-test-base-")
shared_models = Path(os.environ["ACFUN_TESTS_SHARED_FOLDER"]) / "models"

for folder in SHARED_MODEL_FOLDERS:
    (shared_models / folder).mkdir(parents=True, exist_ok=True)
    link = Path(base_folder.name) / "models" / folder
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(shared_models / folder, target_is_directory=True)

if HAS_COMFYUI:
    on_gpu = "ACFUN_TESTS_ON_GPU" in os.environ
    comfyui_host.start(cpu=not on_gpu, base_directory=base_folder.name)


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
    """Remove ComfyUI's folder."""
    base_folder.cleanup()


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    """Return the folder of the ComfyUI under test."""
    return COMFYUI


@pytest.fixture(scope="session")
def models_dir() -> ModelsDir:
    """Return the run's folder of tiny models; each is written when first asked for."""
    import short_encoders  # noqa: F401  # The files are as short as what is read from them.
    from models_dir import ModelsDir

    return ModelsDir(shared_models)


@pytest.fixture(scope="session")
def server(models_dir: ModelsDir) -> Iterator[ComfyServer]:
    """Yield a running server of the ComfyUI under test, with the pack and with previews."""
    with new_test_server(models_dir) as running:
        yield running


@pytest.fixture(scope="session")
def old_server(models_dir: ModelsDir) -> Iterator[ComfyServer]:
    """Yield a running server of the oldest supported ComfyUI, with the pack and previews."""
    if not comfyui_host.is_installed(OLD_COMFYUI):
        pytest.skip(f"There is no ComfyUI in {OLD_COMFYUI}; COMFYUI_OLD_PATH sets the folder.")
    with new_test_server(models_dir, OLD_COMFYUI) as running:
        yield running


def new_test_server(models_dir: ModelsDir, comfyui: Path = COMFYUI) -> ComfyServer:
    """Return a server with the pack, previews, short encoders and tiny transformers."""
    server = comfyui_host.new_server(models_dir.root, comfyui, arguments=PREVIEWS)
    for folder in ("short_encoders", "tiny_transformer_node"):
        server.add_pack(SUPPORT / folder)
    return server


@pytest.fixture(scope="module", params=["server", "old_server"])
def either_server(request: pytest.FixtureRequest) -> ComfyServer:
    """Return the one and then the other of the running servers."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def comfy(models_dir: ModelsDir) -> ComfyLibrary:
    """Return ComfyUI in this process."""
    from comfy_library import ComfyLibrary

    return ComfyLibrary(models_dir)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Keep Python from looking for circles of references, which alone are left to its collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def quick_redrawing(acfun: PackNodes, monkeypatch: pytest.MonkeyPatch) -> int:
    """Redraw faces in two steps; return how often the U-Net is called for one of them."""
    from acfun_pack.acfun_ops.training.training_images import prepare_images
    from pack_nodes import short_redrawing

    method = short_redrawing()
    monkeypatch.setattr(prepare_images, "__defaults__", (method,))
    return 3 * method.redrawing.steps + 2


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
    """Return the pack, imported as `acfun_pack`; see comfyui_host.import_pack."""
    return comfyui_host.import_pack()


@pytest.fixture(scope="session")
def acfun(pack: ModuleType, comfy: ComfyLibrary) -> PackNodes:
    """Return the pack's nodes in this process, with styles trained on the tiny models."""
    from pack_nodes import PackNodes

    return PackNodes(pack, comfy)
