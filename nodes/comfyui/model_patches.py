"""What takes part in a call of MODEL or CLIP besides ComfyUI's own code and weight patches."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

_OPTIONS = ("model_function_wrapper", "sampler_cfg_function")
_PARTS = ("injections", "additional_models", "weight_wrapper_patches")


def is_patched(model: Any, clip: Any) -> bool:
    """Tell whether anything but weights and patches on them makes a call of either another one.

    Nodes of ComfyUI's own, as FreeU, count like those of other packs; LoRAs do not, unless they are
    put on modules and not on weights.
    """
    return bool(_patches(model) or _parts(clip.patcher))


def patch_names(model: Any, clip: Any) -> str:
    """Return a text of what patches MODEL and CLIP, for their fingerprint; empty if nothing does.

    The same patches have the same text in every process: it holds the names of what is patched and
    by which functions and classes, and the numbers and words that a function was made with. An
    object's own are not in it, as they may change while it draws; it may tell more of itself by the
    property ``patch_name``.
    """
    return "\n".join([*_lines("", _patches(model)), *_lines("clip", _parts(clip.patcher))])


def _patches(model: Any) -> dict[str, Any]:
    options = model.model_options
    parts = {name: options.get(name) for name in ("transformer_options", *_OPTIONS)}
    parts["object_patches"] = model.object_patches
    return {name: part for name, part in parts.items() if part} | _parts(model)


def _parts(patcher: Any) -> dict[str, Any]:
    # A CLIP's object patches are ComfyUI's own settings of how it computes.
    parts = {name: getattr(patcher, name) for name in _PARTS}
    parts["wrappers"] = {kind: named for kind, named in patcher.wrappers.items() if named}
    return {name: part for name, part in parts.items() if part}


def _lines(path: str, part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        for key, value in sorted(
            ((_key(key), value) for key, value in part.items()), key=lambda named: named[0]
        ):
            yield from _lines(f"{path} {key}", value)
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _lines(path, one)
    else:
        yield f"{path} {_name(part)}"


def _key(key: Any) -> str:
    if isinstance(key, tuple):
        return f"({', '.join(map(_key, key))})"
    return str(key) if isinstance(key, str | int | float | None) else _name(key)


def _name(part: Any) -> str:
    """Return what a function or an object is called, without the address that a repr may hold."""
    if isinstance(part, MethodType):
        return f"{_name(part.__self__)}:{_name(part.__func__)}"
    if isinstance(part, partial):
        return f"partial:{_name(part.func)}{_plain([*part.args, *part.keywords.values()])}"
    if isinstance(part, FunctionType):
        return f"{_qualified(part)}{_plain(_enclosed(part))}"
    if isinstance(part, BuiltinFunctionType | type):
        return _qualified(part)
    # With all its bases: a class made on the fly tells v from eps only by what it derives from.
    kinds = " ".join(map(_qualified, type(part).__mro__))
    # Asked of the class: ComfyUI's configurations answer every question, with a warning.
    return f"{kinds}:{part.patch_name}" if hasattr(type(part), "patch_name") else kinds


def _enclosed(function: FunctionType) -> Iterator[Any]:
    """Yield what a function's closure holds, as the settings that a node made it with."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # Nothing is in the cell yet.
            yield cell.cell_contents


def _plain(values: Iterable[Any]) -> str:
    """Return those values that are the same in every process."""
    plain = [value for value in values if _is_plain(value)]
    return f"({', '.join(map(repr, plain))})" if plain else ""


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return _is_plain(list(value.items()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _qualified(named: Any) -> str:
    # A pack's module is called after the folder that it lies in.
    module = str(named.__module__).replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[-1]
    return f"{module}.{named.__qualname__}"
