"""ACFun (Ji, Wei, Zhang, Deng, NeurIPS 2024) in plain torch; knows nothing of ComfyUI.

``__all__`` lists the public names. Each is imported when it is first used, and torch with it.
"""

import importlib
import importlib.metadata
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbones.diffusers_backbone import DiffusersBackbone as DiffusersBackbone
    from .backbones.diffusers_backbone import load_pipeline as load_pipeline
    from .backbones.image_encoder import VisionEncoder as VisionEncoder
    from .errors import ACFunError as ACFunError
    from .sampling.styled_pipeline import styled as styled
    from .style.style import Style as Style
    from .style.style_file import load_style as load_style
    from .style.style_file import save_style as save_style
    from .training.config import TrainConfig as TrainConfig
    from .training.events import TrainImages as TrainImages
    from .training.events import TrainResult as TrainResult
    from .training.fit import fit as fit

_MODULES = {
    "ACFunError": "errors",
    "DiffusersBackbone": "backbones.diffusers_backbone",
    "Style": "style.style",
    "TrainConfig": "training.config",
    "TrainImages": "training.events",
    "TrainResult": "training.events",
    "VisionEncoder": "backbones.image_encoder",
    "fit": "training.fit",
    "load_pipeline": "backbones.diffusers_backbone",
    "load_style": "style.style_file",
    "save_style": "style.style_file",
    "styled": "sampling.styled_pipeline",
}
_PROJECT = "acfun-face-style"

__all__ = list(_MODULES)
__version__: str

if not TYPE_CHECKING:  # Or every name would be one of the package's.

    def __getattr__(name: str) -> Any:  # noqa: ANN401
        if name == "__version__":
            value = _find_version(Path(__file__).resolve().parents[1] / "pyproject.toml")
        elif name in _MODULES:
            value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULES, "__version__"})


def _find_version(project: Path) -> str:
    """Return the version in pyproject.toml next to the package, else that of the installed one."""
    # ComfyUI clones the pack and installs nothing; another version may be installed as well.
    text = project.read_text(encoding="utf-8") if project.is_file() else ""
    found = re.search(rf'^name = "{_PROJECT}"\nversion = "(.+)"$', text, re.MULTILINE)
    if found is not None:
        return found[1]
    try:
        return importlib.metadata.version(_PROJECT)
    except importlib.metadata.PackageNotFoundError:  # Ray's workers get the package alone.
        return "unknown"
