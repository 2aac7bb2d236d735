"""Who imports whom in the pack's nodes and in the evaluation (docs/architecture.md).

tests/ops/test_layers.py holds the same for acfun_ops.
"""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("acfun_ops", "nodes")
PACKAGES = (*PRODUCT, "evaluation")
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "comfyui_version"}
COMFYUI |= {"execution", "folder_paths", "latent_preview", "ComfyUI-nodes", "server"}
HOST = "evaluation.comfyui_host"
MOST_LINES = 300
# What each room of the pack's nodes may import of nodes and ComfyUI; a node file is a room "node".
ROOMS = {
    "menu": {"node", "schema", "comfyui", "library"},
    "node": {"schema", "comfyui", "library"},
    "schema": {"comfyui", "library"},
    "comfyui": {"comfyui"},
    "library": {"library"},
}
# What is measured with, from left to right; a file of evaluation itself may import any.
EVALUATION = {"metrics": 0, "toy": 1, "methods": 2, "sections": 3, "report": 4}
# Kept empty; what is listed here is on its way out.
EXCEPTIONS: set[str] = set()


@cache
def modules(package: str) -> dict[str, Path]:
    """Return every module of a package by its dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, path: Path) -> set[str]:
    """Return what a module imports, wherever in it, by absolute dotted names."""
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    return imports_in(ast.parse(path.read_text(encoding="utf-8")), package)


def imports_in(tree: ast.AST, package: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {_absolute(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            parents = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            base = base if node.level else _absolute(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def _absolute(name: str) -> str:
    # ComfyUI's own module has the name of the pack's folder, which is imported relatively alone.
    first, dot, rest = name.partition(".")
    return f"{'ComfyUI-nodes' if first == 'nodes' else first}{dot}{rest}"


@cache
def inside(package: str) -> dict[str, set[str]]:
    """Return for each module of a package which modules of the three packages it imports."""
    known = {name for each in PACKAGES for name in modules(each)}
    edges = {}
    for module, path in modules(package).items():
        names = imports_of(module, path)
        hits = {name if name in known else name.rpartition(".")[0] for name in names} & known
        edges[module] = hits - {module}
    return edges


def room_of(module: str) -> str:
    parts = module.split(".")[1:]
    if not parts:
        return "menu"
    if parts[0] in ("comfyui", "library", "schema"):
        return parts[0]
    return "node"


def complaints(package: str) -> set[str]:
    """Return what a package imports against the rules, as ``module -> module``."""
    found = set()
    for module, others in inside(package).items():
        for other in others:
            is_wrong = other.split(".")[0] not in ALLOWED[package]
            if package == other.split(".")[0] == "nodes":
                is_wrong = room_of(other) not in ROOMS[room_of(module)]
                # A package's own __init__ imports nothing.
                is_wrong = is_wrong and not (other.count(".") == 1 and module.startswith(other))
            if is_wrong:
                found.add(f"{module} -> {other}")
    return found


ALLOWED = {
    "acfun_ops": {"acfun_ops"},
    "nodes": {"acfun_ops", "nodes"},
    "evaluation": {"acfun_ops", "evaluation"},
}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package):
    assert complaints(package) - EXCEPTIONS == set()


def test_rooms_of_evaluation_import_those_before_them_alone():
    found = set()
    for module, others in inside("evaluation").items():
        place = EVALUATION.get(module.split(".")[1] if "." in module else "", len(EVALUATION))
        rooms = {other.split(".")[1] for other in others if other != "evaluation"}
        found |= {f"{module} -> {room}" for room in rooms if EVALUATION.get(room, -1) > place}
    assert found - EXCEPTIONS == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_in_a_circle(package):
    own = set(modules(package))
    # A package's __init__ is run before its modules; that it is named in an import is no circle.
    roots = {name for name, path in modules(package).items() if path.stem == "__init__"}
    graph = {m: (others & own) - roots for m, others in inside(package).items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        assert {f"{package} in a circle"} <= EXCEPTIONS, error.args[1]


def test_library_imports_of_comfyui_its_folders_alone():
    for module, path in modules("nodes").items():
        if room_of(module) == "library":
            outside = {name.split(".")[0] for name in imports_of(module, path)}
            assert outside & COMFYUI <= {"folder_paths"}, module


def test_evaluation_reaches_comfyui_through_one_module():
    found = set()
    for module, path in modules("evaluation").items():
        names = {name.split(".")[0] for name in imports_of(module, path)}
        if module != HOST and names & (COMFYUI | {"acfun_pack"}):
            found.add(module)
    assert found - EXCEPTIONS == set()


def test_evaluation_edits_the_search_path_in_one_module():
    found = {m for m, p in modules("evaluation").items() if "sys.path" in p.read_text("utf-8")}
    assert found - {HOST} - EXCEPTIONS == set()


def product_patches(tree: ast.AST) -> list[str]:
    """Return what of the product a module replaces with ``mock.patch.object``."""
    ours = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            ("acfun_ops", "acfun_pack")
        ):
            ours |= {alias.asname or alias.name for alias in node.names}
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("patch.object")):
            continue
        target = ast.unparse(node.args[0])
        if target.split(".")[0] in ours:
            found.append(target)
    return found


def test_evaluation_changes_the_method_by_settings_alone():
    found = set()
    for module, path in modules("evaluation").items():
        if product_patches(ast.parse(path.read_text(encoding="utf-8"))):
            found.add(f"{module} patches")
    assert found - EXCEPTIONS == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_long(package):
    lengths = {m: len(p.read_text("utf-8").splitlines()) for m, p in modules(package).items()}
    assert {m: n for m, n in lengths.items() if n > MOST_LINES and m not in EXCEPTIONS} == {}


def test_walks_see_what_they_look_for():
    source = "import a.b\ndef late():\n    from ..c import d\n    from . import e\n"
    assert imports_in(ast.parse(source), "p.q") == {"a.b", "p.c.d", "p.q.e"}
    patch = "from acfun_ops.training import fit as f\nfrom unittest import mock\n"
    patch += "mock.patch.object(f, 'x', 1)\nmock.patch.object(os, 'y', 1)\n"
    assert product_patches(ast.parse(patch)) == ["f"]
