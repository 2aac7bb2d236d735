"""``models/acfun``: where styles are saved, listed and looked up."""

from itertools import chain, count
from pathlib import Path, PurePosixPath

import folder_paths

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.style.style import Style
from ..acfun_ops.style.style_file import load_style, save_style
from ..acfun_ops.training.checkpoint import TrainState, load_state, save_state
from ..acfun_ops.training.events import TrainResult
from .sockets import log

FOLDER = "acfun"
TRAINING = "training"


def register_folder() -> None:
    """Register the folder with ComfyUI; a path from extra_model_paths.yaml keeps precedence."""
    default = str(Path(folder_paths.models_dir) / FOLDER)
    folder_paths.add_model_folder_path(FOLDER, default)
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})


def style_folder() -> Path:
    """Return the folder that styles are saved to."""
    return Path(folder_paths.get_folder_paths(FOLDER)[0])


def style_names() -> list[str]:
    """Return the names of all styles, as Load ACFun Style lists them."""
    return list(folder_paths.get_filename_list(FOLDER))


def style_path(name: str) -> Path:
    """Return the path of a style by its listed name.

    Raises:
        ACFunError: the name leads out of the folder, or there is no such file.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if ".." in parts.parts or parts.is_absolute() or ":" in name:
        raise ACFunError(
            f"'{name}' leads out of the folder of styles; expected a file below models/{FOLDER}. "
            "Choose one from the list."
        )
    found = folder_paths.get_full_path(FOLDER, name)
    if found is None:
        raise ACFunError(
            f"There is no style '{name}' in models/{FOLDER}. Put the file there, press R to "
            "refresh and choose it again."
        )
    return Path(found)


def new_style_path(prefix: str) -> Path:
    """Return a path for a new style, numbered like ComfyUI's pictures.

    Raises:
        ACFunError: the prefix is empty or leads out of the folder.
    """
    parts = PurePosixPath(prefix.replace("\\", "/"))
    leads_out = ".." in parts.parts or parts.is_absolute() or ":" in prefix
    if leads_out or not parts.name.strip(" .") or "\0" in prefix:
        raise ACFunError(
            f"filename_prefix is '{prefix}'; expected a name, with folders below models/{FOLDER} "
            "if wanted, such as 'portraits/monet'."
        )
    root = style_folder()
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(str(parts), str(root))
        while (path := Path(folder) / f"{name}_{counter:05}_.safetensors").exists():
            counter += 1
    except OSError as error:
        raise ACFunError(
            f"The folder for '{prefix}' in {root} could not be made: {error.strerror or error}. "
            "Choose another prefix or make the folder writable."
        ) from error
    return path


def keep_training(result: TrainResult) -> str:
    """Write a training's style, and what it needs to go on, to ``models/acfun/training``.

    The names come from the run; a file of the same run that has more steps is left alone.

    Returns:
        A sentence that says under which name Load ACFun Style lists the style, or why it could not
        be written: a full disk must not cost a training that goes on, or whose style is still in
        the graph.
    """
    try:
        path = _training_path(result.style)
        save_style(result.style, path)
    except ACFunError as error:
        log.warning("%s", error)
        return str(error)
    try:
        if result.state is not None:
            save_state(result.state, path.with_suffix(".resume"))
    except ACFunError as error:
        log.warning("%s", error)
        return f"{_kept_as(path)}, but not what it needs to go on exactly. {error}"
    return f"{_kept_as(path)}."


def _kept_as(path: Path) -> str:
    return f"It is kept as {TRAINING}/{path.name} (press R to list it)"


def kept_state(style: Style) -> TrainState | None:
    """Return the training state that belongs to a style, None if there is none of its step."""
    for folder in folder_paths.get_folder_paths(FOLDER):
        for path in sorted((Path(folder) / TRAINING).glob(f"{style.facts.run}*.resume")):
            try:
                state = load_state(path)
            except ACFunError as error:
                log.warning("%s", error)
                continue
            if (state.run, state.step) == (style.facts.run, style.facts.steps):
                return state
    return None


def _training_path(style: Style) -> Path:
    folder, run = style_folder() / TRAINING, style.facts.run
    names = chain([run], (f"{run}_{number}" for number in count(2)))
    return next(
        p for n in names if _steps_at(p := folder / f"{n}.safetensors") <= style.facts.steps
    )


def _steps_at(path: Path) -> int:
    try:
        return load_style(path).facts.steps if path.exists() else 0
    except ACFunError:
        return 0
