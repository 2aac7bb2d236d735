"""A training in the terminal: options, progress, Ctrl-C, and the style on disk however it ends."""

from argparse import SUPPRESS, Action, ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from ..backbones.backbone import Backbone
from ..errors import ACFunError
from ..file_io import check_place
from ..image_files import write_image
from ..style.style import Style
from ..style.style_file import load_style
from ..training.checkpoint import TrainState, load_state
from ..training.config import (
    CHOICES,
    PRESET_WORDS,
    TrainConfig,
    describe_preset,
    help_of,
    is_research,
    with_preset,
)
from ..training.events import (
    PreviewEvent,
    Reporter,
    RestylingEvent,
    StepEvent,
    TrainImages,
    TrainResult,
)
from ..training.fit import fit
from ..training.run_files import keep_run, place_for, resume_file
from ..training.training_images import PreparedImages, prepare_images
from .terminal import Progress, interrupts, note, say

EXIT_CODES = {"finished": 0, "cancelled": 130, "diverged": 1, "out of memory": 1}


class _HelpAll(Action):
    """Shows the help with the switches for research, which are its ``const``."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        for action, text in self.const:
            action.help = text
        parser.print_help()
        parser.exit()


def add_training(command: ArgumentParser) -> None:
    """Add the options of a training to a command: presets, and the fields of TrainConfig."""
    research: list[tuple[Action, str]] = []
    command.add_argument(
        "--help-all",
        action=_HelpAll,
        nargs=0,
        const=research,
        help="show the switches for research, too, and exit",
    )
    command.add_argument(
        "--preset",
        choices=PRESET_WORDS,
        help="sets steps and learning_rate, each of which may still be given: quick for a first "
        "idea, balanced for the defaults, paper for a long training",
    )
    group = command.add_argument_group("training")
    for option in fields(TrainConfig):
        # Without a default, so that what the user gave can be told from what a preset may set.
        text = f"{help_of(option.name)} (default: {option.default})".replace("%", "%%")
        values = CHOICES.get(option.name)
        added = group.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=type(option.default),
            choices=values,
            metavar=None if values else type(option.default).__name__.upper(),
            help=SUPPRESS if is_research(option.name) else text,
        )
        if is_research(option.name):
            research.append((added, text))


def training_config(options: Namespace) -> TrainConfig:
    """Return how to train: what the user gave, else the preset's numbers, else the defaults.

    Raises:
        ACFunError: a value is out of range.
    """
    every = {option.name: getattr(options, option.name) for option in fields(TrainConfig)}
    given = {name: value for name, value in every.items() if value is not None}
    config, preset = TrainConfig(**given), PRESET_WORDS.get(options.preset or "")
    if preset is not None:
        config = with_preset(config, preset, given)
        note(f"note: {describe_preset(preset, config)}")
    return config


def check_style_path(path: Path) -> None:
    """Refuse a place for a style that cannot be written, before a training and not after it.

    Raises:
        ACFunError: another ending than .safetensors, a folder, or no permission.
    """
    if path.suffix != ".safetensors":
        raise ACFunError(
            f"{path} does not end in .safetensors; expected a file name such as my.safetensors. "
            "Choose such a name."
        )
    check_place(path, "style")


def load_resumed(path: Path) -> tuple[Style, TrainState | None]:
    """Read a style to go on from, and the training state beside it if there is a usable one.

    Raises:
        ACFunError: the style cannot be read.
    """
    style, beside = load_style(path), resume_file(path)
    try:
        return style, load_state(beside) if beside.exists() else None
    except ACFunError as error:
        note(f"note: {error}")
        return style, None


def train_and_save(
    backbone: Backbone,
    pictures: TrainImages,
    config: TrainConfig,
    out: Path,
    resume: tuple[Style, TrainState | None] | None = None,
    save_every: int | None = None,
) -> int:
    """Train, save and say how it ended; see :func:`train_to_file`.

    Args:
        backbone: the model.
        pictures: the pair to learn.
        config: how.
        out: the style's file; the training state goes beside it, previews into a folder there.
        resume: see :func:`fit`.
        save_every: steps between two saves, see Reporter.

    Returns:
        The exit code: 0 finished, 1 diverged or out of memory, 130 Ctrl-C.

    Raises:
        ACFunError: the inputs are unusable, or the style cannot be written.
    """
    result, path = train_to_file(backbone, pictures, config, out, resume, None, save_every)
    _tell_end(result, config, path)
    return EXIT_CODES[result.outcome]


def train_to_file(
    backbone: Backbone,
    pictures: TrainImages | PreparedImages,
    config: TrainConfig,
    out: Path,
    resume: tuple[Style, TrainState | None] | None = None,
    before: Path | None = None,
    save_every: int | None = None,
) -> tuple[TrainResult, Path]:
    """Train with a progress bar and save the style, and beside it what going on needs.

    The first Ctrl-C stops after the current step and the second at once; both save. Where ``out``
    holds more steps of the same run, or anything else, what is not finished goes beside it.
    Arguments and errors are those of :func:`train_and_save`; what lies at ``before``, an earlier
    part of the same training, is removed once more of it is saved elsewhere.

    Returns:
        The result, and where its style lies.
    """
    with interrupts() as wants_stop:
        reporter = _Reporter(out, config, wants_stop, before)
        reporter.save_every = save_every or reporter.save_every
        if isinstance(pictures, TrainImages):
            pictures = prepare_images(backbone, pictures, config)
        for text in pictures.warnings:
            note(f"note: {text}")
        try:
            with reporter.progress:
                result = fit(backbone, pictures, config, reporter, resume)
        except BaseException:
            reporter.save_last()
            raise
        try:
            return result, reporter.save(result)
        except KeyboardInterrupt:
            reporter.try_to_save(result, aloud=True)
            raise


class _Reporter(Reporter):
    """Shows a training's events in the terminal."""

    def __init__(
        self, out: Path, config: TrainConfig, wants_stop: Callable[[], bool], before: Path | None
    ) -> None:
        super().__init__()
        self.out, self.user_wants_stop, self.saved = out, wants_stop, before
        self.progress = Progress("training", config.steps)

    def wants_stop(self) -> bool:
        """See Reporter; the first Ctrl-C is a wish to stop."""
        return self.user_wants_stop()

    def show_step(self, event: StepEvent) -> None:
        self.progress.reach(event.step, loss=f"{event.loss:.4f}")

    def show_restyling(self, event: RestylingEvent) -> None:
        self.progress.reach(0, redrawing=f"{event.step}/{event.total}")

    def show_preview(self, event: PreviewEvent) -> None:
        """Write the preview into a folder beside the style."""
        folder = self.out.with_name(f"{self.out.stem}_previews")
        try:
            write_image(event.picture, folder / f"step_{event.step:06}.png")
        except ACFunError as error:
            self.add_warning(str(error))

    def add_warning(self, text: str) -> None:
        note(f"note: {text}")

    def save_result(self, result: TrainResult) -> str:
        """Write the style, and its training state beside it."""
        return f"The style of step {result.style.facts.steps} is saved at {self.save(result)}."

    def save(self, result: TrainResult) -> Path:
        """Write them and return where; what this training saved elsewhere before is removed."""
        path = self.out if result.outcome == "finished" else place_for(result.style, self.out)
        error = keep_run(result, path, self.saved)
        self.saved = path
        if error is not None:
            self.add_warning(f"The style is saved, but not what it needs to go on exactly. {error}")
        return path


def _tell_end(result: TrainResult, config: TrainConfig, out: Path) -> None:
    steps, size = result.style.facts.steps, out.stat().st_size / 1e6
    if result.outcome == "cancelled":
        say(
            f"Stopped after step {steps} of {config.steps}; the style is saved at {out} "
            f"({size:.2f} MB). Go on with: --resume-from {out}"
        )
    elif result.outcome == "finished":
        say(f"{result.message} The style is saved at {out} ({size:.2f} MB).")
    else:
        note(f"error: {result.message} The style of step {steps} is saved at {out}.")
