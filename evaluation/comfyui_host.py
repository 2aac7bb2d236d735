"""The one place that starts ComfyUI and imports the pack, for the evaluation and for the tests.

Importing this module starts nothing and does not need ComfyUI, which is looked for at
``$COMFYUI_PATH`` or ``~/comfy/ComfyUI``. :func:`start` brings it into this process, where
:func:`load` returns its modules; :func:`new_server` runs it in a process of its own, as users do.
"""

import importlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMFYUI = Path(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")).expanduser()
OLD_COMFYUI = Path(os.environ.get("COMFYUI_OLD_PATH", "~/comfy/ComfyUI-0.3.64")).expanduser()
PACK = "acfun_pack"
# Tiny models, the HTTP client of a server, and other helpers that the tests share with us.
HELPERS = (ROOT / "tests" / "nodes" / "support", ROOT / "tests" / "ops")


def is_installed(comfyui: Path = COMFYUI) -> bool:
    """Tell whether a folder holds ComfyUI."""
    return (comfyui / "main.py").is_file()


def start(**options: Any) -> None:
    """Make ComfyUI importable in this process; call it before anything else imports ComfyUI.

    ComfyUI is put first on the search path, so that ``import nodes`` is its module and not the
    pack's folder. It reads no command line: its options have their defaults.

    Args:
        **options: options in place of the defaults, as ``cpu=True``.
    """
    if str(COMFYUI) not in sys.path:
        sys.path.insert(0, str(COMFYUI))
    arguments = importlib.import_module("comfy.cli_args").args
    # Before the folder of comfy/utils.py, or a test module of that name, can hide this package.
    importlib.import_module("utils.install_util")
    for name, value in options.items():
        setattr(arguments, name, value)


def load(name: str) -> Any:
    """Return a module of ComfyUI, of the tests' helpers or of the pack.

    Args:
        name: as in ``import``: "comfy.sd", "tiny_models", "acfun_pack.nodes.comfyui.backbone".
    """
    if name.split(".")[0] == PACK:
        import_pack()
    for folder in map(str, HELPERS):
        if folder not in sys.path:
            sys.path.append(folder)
    return importlib.import_module(name)


@cache
def import_pack() -> ModuleType:
    """Import the pack as ``acfun_pack``, the way ComfyUI imports a folder of custom nodes.

    Its modules are ``acfun_pack.nodes.train_style`` and so on. They use ``acfun_pack.acfun_ops``,
    whose classes are not those of a plain ``import acfun_ops``.
    """
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no pack in {ROOT}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    return module


def new_server(models: Path, comfyui: Path = COMFYUI, **options: Any) -> Any:
    """Return a ComfyUI server with the pack, to be started by a ``with`` statement.

    Args:
        models: a models folder in ComfyUI's layout; its files appear in the server.
        comfyui: the folder of ComfyUI.
        **options: of ``ComfyProcess`` in the tests' helpers, as ``arguments`` and ``cpu``.
    """
    return load("comfy_server").ComfyServer(comfyui, models, **({"pack": ROOT} | options))
