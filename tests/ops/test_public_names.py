"""What ``from acfun_ops import ...`` gives, and what it costs."""

import ast
import importlib.metadata
import re
from pathlib import Path

import pytest
from headless_files import run_python

import acfun_ops

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = [
    "ACFunError",
    "DiffusersBackbone",
    "Style",
    "TrainConfig",
    "TrainImages",
    "TrainResult",
    "VisionEncoder",
    "fit",
    "load_pipeline",
    "load_style",
    "save_style",
    "styled",
]


def test_the_public_names_are_these_and_each_can_be_had():
    assert sorted(acfun_ops.__all__, key=str) == PUBLIC
    assert set(PUBLIC) <= set(dir(acfun_ops))
    for name in PUBLIC:
        assert getattr(acfun_ops, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = acfun_ops.Nothing


def test_type_checkers_see_the_same_names_from_the_same_modules():
    tree = ast.parse((ROOT / "acfun_ops" / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert {
        alias.asname: node.module for node in imports for alias in node.names
    } == acfun_ops._MODULES


@pytest.mark.slow
def test_neither_the_package_nor_its_version_nor_a_look_at_its_names_imports_torch():
    code = "import sys, acfun_ops; print(acfun_ops.__version__, 'styled' in dir(acfun_ops));"
    code += (
        "print('torch' in sys.modules); from acfun_ops import Style; print('torch' in sys.modules)"
    )
    assert run_python(code) == [acfun_ops.__version__, "True", "False", "True"]


def test_the_version_is_that_of_the_project():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = text.split("[project]", 1)[1].split("\n[", 1)[0]
    assert acfun_ops.__version__ == re.search(r'^version = "(.+)"$', project, re.MULTILINE)[1]


def test_the_version_is_that_of_the_clone_else_of_what_is_installed(tmp_path, monkeypatch):
    project = tmp_path / "pyproject.toml"
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 9.8")
    assert acfun_ops._find_version(project) == "acfun-face-style 9.8"
    project.write_text('[project]\nname = "other"\nversion = "7.0"\n')
    assert acfun_ops._find_version(project) == "acfun-face-style 9.8"
    project.write_text('[project]\nname = "acfun-face-style"\nversion = "1.2.3"\n')
    assert acfun_ops._find_version(project) == "1.2.3"

    def refuse(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", refuse)
    assert acfun_ops._find_version(tmp_path / "none") == "unknown"
