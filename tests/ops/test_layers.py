"""The house rules that an import can break: who imports whom, versions, docstrings."""

import ast
import re
import sys
from pathlib import Path

import pytest

import acfun_ops

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "acfun_ops"

# Each module imports only from the layers to its left (DESIGN.md).
LAYERS = (
    ("errors", "prompts"),
    ("images", "diffusion"),
    ("abstract_fusion", "concrete_fusion"),
    ("alignment", "backbone", "style_file"),
    ("resume_file", "train_config", "trainables"),
    ("training_events", "optimization"),
    ("encoded_pair", "drawing"),
    ("training", "applied_style", "prompt_encoding", "vision_encoding"),
    ("pipeline_folder", "diffusers_unet", "picture_files", "contact_sheet", "terminal"),
    ("diffusers_backbone", "saved_training", "device_choice", "command_options"),
    ("train_command", "generate_command", "inspect_command", "demo_command"),
    ("__main__",),
)
LEVELS = {module: level for level, modules in enumerate(LAYERS) for module in modules}
MODULES = sorted(path.stem for path in OPS.glob("*.py") if path.stem != "__init__")
ALLOWED = {*sys.stdlib_module_names, "torch", "einops", "safetensors", "numpy", "transformers"}
OUTSIDE = {
    "diffusers_backbone": {"diffusers"},
    "picture_files": {"PIL"},
    "contact_sheet": {"PIL"},
    "demo_command": {"PIL"},
    "terminal": {"tqdm"},
}


def tree_of(module):
    return ast.parse((OPS / f"{module}.py").read_text(encoding="utf-8"))


def imports_of(tree):
    """Return the modules of this package, and the packages outside, that a module imports."""
    inside, outside = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, "an import leads out of acfun_ops"
            inside |= {node.module} if node.module else {alias.name for alias in node.names}
    return inside - {"__version__"}, outside


def test_walk_sees_every_form_of_import():
    source = "import a.b, c\nfrom d.e import f\nfrom .g import h\nfrom . import i\n"
    source += "def late():\n    import j\n    from .k import m\n"
    assert imports_of(ast.parse(source)) == ({"g", "i", "k"}, {"a", "c", "d", "j"})


def test_list_of_layers_is_complete():
    assert sorted(LEVELS) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_from_its_left(module):
    inside, _ = imports_of(tree_of(module))
    wrong = {other for other in inside if LEVELS[other] >= LEVELS[module]}
    assert not wrong


@pytest.mark.parametrize("module", [*MODULES, "__init__"])
def test_module_imports_nothing_of_comfyui(module):
    _, outside = imports_of(tree_of(module))
    assert outside <= ALLOWED | OUTSIDE.get(module, set())


def test_importing_acfun_ops_imports_nothing_itself():
    assert imports_of(tree_of("__init__")) == (set(), set())


def test_version_is_that_of_the_project():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = text.split("[project]", 1)[1].split("\n[", 1)[0]
    found = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert acfun_ops.__version__ == found.group(1)


def public_definitions(node, path=""):
    """Return the public classes, functions and methods that lack a docstring, by dotted name."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for child in node.body:
        if isinstance(child, kinds) and not child.name.startswith("_"):
            yield f"{path}{child.name}", ast.get_docstring(child)
            if isinstance(child, ast.ClassDef):
                yield from public_definitions(child, f"{path}{child.name}.")


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_has_a_docstring(module):
    tree = tree_of(module)
    documented = dict(public_definitions(tree)) | {"the module": ast.get_docstring(tree)}
    assert [name for name, docstring in documented.items() if not docstring] == []


def test_docstring_walk_sees_what_lacks_one():
    source = 'class A:\n    def b(self): pass\n    def _c(self): pass\ndef d():\n    """Do."""\n'
    assert dict(public_definitions(ast.parse(source))) == {"A": None, "A.b": None, "d": "Do."}
