"""``models/acfun``: where styles are saved, listed and looked up."""

import json
import re
import time
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath

import folder_paths

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.file_io import check_can_be_written, write_whole
from ...acfun_ops.style.style_file import RUN_ID, read_facts

FOLDER = "acfun"
TRAINING = "training"
"""The folder of models/acfun that every training leaves its style in."""
MOST_RUNS = 100
"""Runs of trainings that are listed."""
_SHORT = 8  # Digits of a run's name that tell it from all others here.
_LONGEST = 70
_RUN_FILE = re.compile(rf"{TRAINING}[/\\]({RUN_ID.pattern})((?:_\d+)?)\.safetensors")
_LABEL = re.compile(rf"{TRAINING}/.* #([0-9a-f]{{{_SHORT}}})((?:_\d+)?)")
_FILE = "style.safetensors"
_DATE = re.compile(r"%date:([^%]*)%")
_UNITS = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyy?y?")


def register_folder() -> None:
    """Register the folder with ComfyUI; a path from extra_model_paths.yaml keeps precedence."""
    default = str(Path(folder_paths.models_dir) / FOLDER)
    folder_paths.add_model_folder_path(FOLDER, default)
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})


def style_folder(below: str = "") -> Path:
    """Return the first folder of models/acfun that can be written, there or in a folder below.

    Raises:
        ACFunError: none can; the message gives each and the reason.
    """
    reasons = []
    for folder in map(Path, folder_paths.get_folder_paths(FOLDER)):
        try:
            check_can_be_written(folder / below / _FILE)
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror or error}")
        else:
            return folder
    raise ACFunError(
        "No folder of models/{folder} can be written ({reasons}). Make one writable, "
        "or name another one under {folder}: in extra_model_paths.yaml.",
        folder=FOLDER,
        reasons="; ".join(reasons),
    )


def style_files() -> dict[str, Path]:
    """Return all styles' files by their names below models/acfun."""
    found = {}
    for name in folder_paths.get_filename_list(FOLDER):
        path = folder_paths.get_full_path(FOLDER, name)
        if path is not None:
            found[name] = Path(path)
    return found


def style_names() -> list[str]:
    """Return what Load ACFun Style lists: files by name, then the newest runs of trainings.

    Runs that were saved under another name are left out, and no other run's header is read; each is
    found by its label or its file's name all the same.
    """
    files, runs = [], []
    for name, path in style_files().items():
        if _RUN_FILE.fullmatch(name) is None:
            files.append(name)
            continue
        with suppress(OSError):  # The file may be gone since it was listed.
            runs.append((path.stat().st_mtime_ns, name, path))
    unsaved = (run for run in sorted(runs, reverse=True) if not is_saved(run[2]))
    labels = [(label_of(name, path), path) for _, name, path in islice(unsaved, MOST_RUNS)]
    return files + [label for label, path in labels if path.exists()]


def name_of(path: Path) -> str:
    """Return what Load ACFun Style lists a training's file as."""
    return label_of(f"{TRAINING}/{path.name}", path)


def style_path(name: object) -> Path:
    """Return the path of a style by its listed name or its file's, as any system writes it.

    Raises:
        ACFunError: it is no name, leads out of the folder, or there is no such file.
    """
    if not isinstance(name, str):
        raise ACFunError(
            "style_file is {name}; expected the name of a file below models/{folder}. "
            "Choose one from the list.",
            name=json.dumps(name, default=str),
            folder=FOLDER,
        )
    names = folder_paths.get_filename_list(FOLDER)
    if label := _LABEL.fullmatch(name):  # Its prompt may hold anything, and is no path.
        runs = filter(None, map(_RUN_FILE.fullmatch, names))
        short = ((run[0], (run[1][:_SHORT], run[2])) for run in runs)
        return _resolve(name, (file for file, digits in short if digits == label.groups()))
    parts = PurePosixPath(name.replace("\\", "/"))
    if ".." in parts.parts or parts.is_absolute() or ":" in name:
        raise ACFunError(
            "'{name}' leads out of the folder of styles; expected a file below "
            "models/{folder}. Choose one from the list.",
            name=name,
            folder=FOLDER,
        )
    # Windows writes folders with a backslash, and macOS letters with their accents apart.
    same = (other for other in names if _normalize(other) == _normalize(name))
    return _resolve(name, (name, str(parts), *same))


def _resolve(name: str, spellings: Iterable[str]) -> Path:
    for spelling in filter(None, spellings):
        found = folder_paths.get_full_path(FOLDER, spelling)
        if found is not None:
            return Path(found)
    raise ACFunError(
        "There is no style '{name}' in models/{folder}. Put the file there, press R "
        "to refresh and choose it again.",
        name=name,
        folder=FOLDER,
    )


def find_save_path(prefix: object) -> tuple[Path, list[Path]]:
    """Return a free path, numbered like ComfyUI's images, and the files of the same prefix.

    Raises:
        ACFunError: see :func:`check_prefix`.
    """
    root, parts = check_prefix(prefix)
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(str(parts), str(root))
        while (path := Path(folder) / f"{name}_{counter:05}_.safetensors").exists():
            counter += 1
        ours = re.compile(rf"{re.escape(name)}_\d+_\.safetensors")
        return path, sorted(file for file in path.parent.iterdir() if ours.fullmatch(file.name))
    except OSError as error:
        raise _cannot_be_made(prefix, root, error) from error


def check_prefix(prefix: object) -> tuple[Path, PurePosixPath]:
    """Return the folder to save to and a prefix below it; nothing is made.

    Raises:
        ACFunError: it is empty, leads out of the folder, or cannot be a name there.
    """
    name = prefix if isinstance(prefix, str) else ""
    parts = PurePosixPath(_expand_dates(name).replace("\\", "/"))
    leads_out = ".." in parts.parts or parts.is_absolute() or ":" in str(parts)
    if leads_out or not parts.name.strip(" .") or "\0" in name:
        colon = " and without a colon" if ":" in str(parts) else ""
        raise ACFunError(
            "filename_prefix is '{prefix}'; expected a name, with folders below "
            "models/{folder} if wanted{colon}, such as 'portraits/monet' or "
            "'%date:yyyy-MM-dd%/monet'.",
            prefix=prefix,
            folder=FOLDER,
            colon=colon,
        )
    root = style_folder()
    try:
        inside = root.resolve() in (root / parts).resolve().parents
        check_can_be_written(root / parts.parent / f"{parts.name}_00001_.safetensors")
    except (OSError, UnicodeError) as error:
        raise _cannot_be_made(prefix, root, error) from error
    if not inside:
        raise ACFunError(
            "filename_prefix is '{prefix}', which leads out of {root} through a link; "
            "expected a name in that folder. Choose another.",
            prefix=prefix,
            root=root,
        )
    return root, parts


def _expand_dates(prefix: str) -> str:
    """Put today's date in for ``%date:FORMAT%``, which the page does for stock nodes only."""
    now = time.localtime()
    numbers = {"d": now.tm_mday, "M": now.tm_mon, "h": now.tm_hour, "m": now.tm_min}
    numbers["s"] = now.tm_sec
    years = {"yy": f"{now.tm_year % 100:02}", "yyy": "yyy", "yyyy": f"{now.tm_year:04}"}

    def unit(match: re.Match[str]) -> str:
        text = match[0]
        return years[text] if text in years else str(numbers[text[0]]).zfill(len(text))

    return _DATE.sub(lambda match: _UNITS.sub(unit, match[1]), prefix)


def _normalize(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _cannot_be_made(prefix: object, root: Path, error: Exception) -> ACFunError:
    reason = getattr(error, "strerror", None) or error
    return ACFunError(
        "A style '{prefix}' in {root} could not be made: {reason}. Choose another "
        "prefix or make the folder writable.",
        prefix=prefix,
        root=root,
        reason=reason,
    )


def label_of(name: str, path: Path) -> str:
    """Return what people read for a style's file: "training/A woman, 150 steps, DATE #3f2a1c9d".

    Only files that are called after their run get one; its digits alone find the file again.

    Args:
        name: of the file below models/acfun.
        path: where it is.
    """
    run = _RUN_FILE.fullmatch(name)
    if run is None:
        return name
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return name
    return f"{_describe_run(path, changed)} #{run[1][:_SHORT]}{run[2]}"


def is_file_of_other_run(name: str, run: str) -> bool:
    """Tell by the name of a file below models/acfun that it holds another run's style."""
    match = _RUN_FILE.fullmatch(name)
    return match is not None and match[1] != run


@lru_cache(maxsize=4096)
def _describe_run(path: Path, changed: int) -> str:
    facts = read_facts(path)
    prompt = " ".join(str(facts.get("prompt", "?")).split())
    short = prompt if len(prompt) <= _LONGEST else f"{prompt[: _LONGEST - 3]}..."
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(changed / 1e9))
    return f"{TRAINING}/{short}, {facts.get('steps', '?')} steps, {date}"


def mark_saved(run_file: Path, saved: Path) -> None:
    """Note beside a run's file where its style was saved; without room for it nothing is noted."""
    with suppress(ACFunError):
        write_whole(str(saved).encode("utf-8", "surrogateescape"), _mark(run_file), "mark")


def is_saved(run_file: Path) -> bool:
    """Tell whether a run's style was saved, is still there, and has not been trained on since."""
    mark = _mark(run_file)
    try:
        saved = Path(mark.read_bytes().decode("utf-8", "surrogateescape"))
        return saved.is_file() and mark.stat().st_mtime_ns >= run_file.stat().st_mtime_ns
    except (OSError, ValueError):
        return False


def _mark(run_file: Path) -> Path:
    return run_file.with_suffix(".saved")
