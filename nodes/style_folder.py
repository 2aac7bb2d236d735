"""``models/acfun``: where styles are saved, listed and looked up."""

from pathlib import Path, PurePosixPath

import folder_paths

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.resume_file import TrainState, load_state, save_state
from ..acfun_ops.style_file import Style, save_style
from ..acfun_ops.training_events import TrainResult

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
    if not parts.name.strip(" .") or ".." in parts.parts or parts.is_absolute() or ":" in prefix:
        raise ACFunError(
            f"filename_prefix is '{prefix}'; expected a name, with folders below models/{FOLDER} "
            "if wanted, such as 'portraits/monet'."
        )
    root = style_folder()
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, str(root))
    except OSError as error:
        raise ACFunError(
            f"The folder for '{prefix}' in {root} could not be made: {error.strerror or error}. "
            "Choose another prefix or make the folder writable."
        ) from error
    return Path(folder) / f"{name}_{counter:05}_.safetensors"


def keep_training(result: TrainResult) -> Path:
    """Write a training's style, and what it needs to go on, to ``models/acfun/training``.

    The names come from the run, so one run has one pair of files however often it is written.

    Returns:
        The path of the style.

    Raises:
        ACFunError: the folder cannot be written or the disk is full.
    """
    path = style_folder() / TRAINING / f"{result.style.facts.run}.safetensors"
    save_style(result.style, path)
    if result.state is not None:
        save_state(result.state, path.with_suffix(".resume"))
    return path


def kept_state(style: Style) -> TrainState | None:
    """Return the training state that belongs to a style, None if there is none of its step."""
    for folder in folder_paths.get_folder_paths(FOLDER):
        path = Path(folder) / TRAINING / f"{style.facts.run}.resume"
        if path.is_file():
            state = load_state(path)
            if (state.run, state.step) == (style.facts.run, style.facts.steps):
                return state
    return None
