"""The house rules that an import can break: who imports whom, versions, docstrings."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "acfun_ops"

# A room is a file or a folder of acfun_ops; each imports only from those to its left (DESIGN.md).
FLOORS = (
    ("messages",),
    ("contact_sheet", "errors", "model_families"),
    ("pseudo_word", "file_io", "method"),
    ("image_files",),
    ("images",),
    ("backbones", "style"),
    ("sampling",),
    ("training",),
    ("cli",),
    ("__main__",),
)
LEVELS = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(
    ".".join(path.relative_to(OPS).with_suffix("").parts)
    for path in OPS.rglob("*.py")
    if path.stem != "__init__"
)
PACKAGES = sorted(path.parent.name for path in OPS.glob("*/__init__.py"))
ALLOWED = {*sys.stdlib_module_names, "torch", "einops", "safetensors", "numpy", "transformers"}
OUTSIDE = {
    "backbones.diffusers_backbone": {"diffusers"},
    "backbones.diffusers_unet": {"diffusers"},
    "backbones.pipeline_parts": {"diffusers"},
    "image_files": {"PIL"},
    "images": {"PIL"},
    "contact_sheet": {"PIL"},
    "cli.demo": {"PIL"},
    "cli.ray_cluster": {"ray"},
    "cli.terminal": {"tqdm"},
}


def tree_of(module):
    path = OPS / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(tree, room=""):
    """Return the modules of this package by dotted name, and the packages outside."""
    inside, outside = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1 + bool(room), "an import leads out of acfun_ops"
            path = [room] if room and node.level == 1 else []
            names = [node.module] if node.module else [alias.name for alias in node.names]
            inside |= {".".join([*path, name]) for name in names}
    return inside - {"__version__"}, outside


def room_of(module):
    return module.partition(".")[0]


def inside_of(module):
    return imports_of(tree_of(module), room_of(module) if "." in module else "")[0]


def test_walk_sees_every_form_of_import():
    source = "import a.b, c\nfrom d.e import f\nfrom .g import h\nfrom . import i\n"
    source += "def late():\n    import j\n    from .k import m\n"
    source += "from ..n.o import p\n"
    outside = {"a", "c", "d", "j"}
    assert imports_of(ast.parse(source), "r") == ({"r.g", "r.i", "r.k", "n.o"}, outside)


def test_walk_refuses_an_import_from_outside_the_package():
    with pytest.raises(AssertionError, match="leads out"):
        imports_of(ast.parse("from ..nodes import train"))


def test_list_of_rooms_is_complete():
    assert set(LEVELS) == {room_of(module) for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_from_rooms_to_its_left(module):
    room = room_of(module)
    others = {room_of(other) for other in inside_of(module)} - {room}
    assert not {other for other in others if LEVELS[other] >= LEVELS[room]}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_room_imports_itself_in_a_circle(package):
    inside = {m: inside_of(m) for m in MODULES if room_of(m) == package}
    list(TopologicalSorter(inside).static_order())


@pytest.mark.parametrize("module", [*MODULES, *PACKAGES])
def test_module_imports_nothing_of_comfyui(module):
    _, outside = imports_of(tree_of(module), room_of(module) if "." in module else "")
    assert outside <= ALLOWED | OUTSIDE.get(module, set())


@pytest.mark.parametrize("package", PACKAGES)
def test_room_itself_imports_nothing(package):
    assert imports_of(tree_of(package), package) == (set(), set())


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
    assert [name for name, docstring in documented.items() if says_nothing(docstring)] == []


def says_nothing(docstring):
    """Tell whether a docstring is missing or only points elsewhere."""
    return not docstring or re.match(r"See \w+\.", docstring) is not None


def test_a_pointer_elsewhere_is_no_docstring():
    assert says_nothing(None)
    assert says_nothing("See Backbone.")
    assert says_nothing("See Backbone. The time is the schedule's nearest.")
    assert not says_nothing("Decode to the CPU, see Backbone.")


def undocumented_fields(tree):
    """Return the fields of dataclasses that no docstring of their own follows, by dotted name."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            continue
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            is_told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and not is_told:
                yield f"{node.name}.{field.target.id}"


@pytest.mark.parametrize("module", MODULES)
def test_every_field_of_a_dataclass_has_a_line_of_its_own(module):
    # A TrainConfig holds the help texts of its options.
    found = set(undocumented_fields(tree_of(module)))
    assert {name for name in found if not name.startswith("TrainConfig.")} == set()


def test_field_walk_sees_what_lacks_a_line():
    source = '@dataclass(frozen=True)\nclass A:\n    """Do."""\n    b: int\n'
    source += '    c: int\n    """Told."""\n'
    assert list(undocumented_fields(ast.parse(source))) == ["A.b"]


def test_docstring_walk_sees_what_lacks_one():
    source = 'class A:\n    def b(self): pass\n    def _c(self): pass\ndef d():\n    """Do."""\n'
    assert dict(public_definitions(ast.parse(source))) == {"A": None, "A.b": None, "d": "Do."}
