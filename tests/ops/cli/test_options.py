"""The options of the command line: their names, presets, help, and the script ``acfun``."""

import importlib.metadata
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from headless_files import run_python, write_random_picture

import acfun_ops
from acfun_ops.cli.pair_list import read_pairs
from acfun_ops.cli.parser import new_parser, parse_arguments
from acfun_ops.cli.training_run import training_config
from acfun_ops.errors import ACFunError
from acfun_ops.training.config import PRESET_WORDS, PRESETS, TrainConfig, is_research

FILES = ["--model", "m", "--style-image", "a", "b", "--face-image", "c", "--out", "d"]
RESEARCH = {option.name for option in fields(TrainConfig) if is_research(option.name)}


def shown(line, *arguments):
    code, said, _ = line.run(*arguments)
    assert code == 0
    return {name.replace("-", "_") for name in re.findall(r"^  --([a-z-]+)", said, re.MULTILINE)}


@pytest.mark.parametrize("command", ["train", "train-many"])
def test_help_leaves_out_the_switches_for_research(line, command):
    usual, everything = shown(line, command, "--help"), shown(line, command, "--help-all")
    assert RESEARCH and everything - usual == RESEARCH
    assert {"help_all", "preset", "steps", "rank"} <= usual <= everything


def test_hidden_options_work():
    assert training_config(parse_arguments(["train", *FILES, "--layers", "3"])).layers == 3


@pytest.mark.parametrize("word", PRESET_WORDS)
def test_a_preset_sets_what_is_not_given_and_says_so(word, capsys):
    preset = PRESETS[PRESET_WORDS[word]]
    config = training_config(parse_arguments(["train", *FILES, "--preset", word]))
    assert {name: getattr(config, name) for name in preset} == preset
    assert f"steps {preset['steps']}, " in capsys.readouterr().err
    config = training_config(parse_arguments(["train", *FILES, "--steps", "7", "--preset", word]))
    assert (config.steps, config.learning_rate) == (7, preset["learning_rate"])
    assert "steps 7, " in capsys.readouterr().err


def test_a_preset_leaves_the_other_options_and_their_checks():
    config = training_config(parse_arguments(["train", *FILES, "--preset", "quick", "--rank", "5"]))
    assert (config.rank, config.seed) == (5, TrainConfig().seed)
    with pytest.raises(ACFunError, match="steps is 0"):
        training_config(parse_arguments(["train", *FILES, "--preset", "quick", "--steps", "0"]))


def test_a_list_of_pairs_takes_the_names_of_the_nodes_inputs(tmp_path):
    for number, name in enumerate(("a.png", "b.png")):
        write_random_picture(tmp_path / name, number, (80, 80))
    rows = []
    for header in ("style,face,mask", "style_image,face_image,face_mask"):
        (tmp_path / "pairs.csv").write_text(f"{header}\na.png,b.png,b.png\n")
        rows.append(read_pairs(tmp_path / "pairs.csv", tmp_path / "out", {}))
    assert rows[0] == rows[1] and rows[0][0].mask is not None


def test_usage_and_examples_name_the_command_that_was_run(monkeypatch):
    for started, name in (("/bin/acfun", "acfun"), ("/a/__main__.py", "python -m acfun_ops")):
        monkeypatch.setattr(sys, "argv", [started])
        assert new_parser().format_usage().startswith(f"usage: {name} ")


def test_the_script_is_announced_and_runs():
    project = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    announced = re.search(r'^acfun = "(.+)"$', project, re.MULTILINE)
    entry = importlib.metadata.EntryPoint("acfun", announced[1], "console_scripts")
    assert entry.load()
    code = f"import sys; sys.argv = ['acfun', '--help']; from {entry.module} import {entry.attr}"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit({entry.attr}())"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert (ran.returncode, ran.stdout.split()[:2]) == (0, ["usage:", "acfun"])


def test_the_version_costs_no_import_of_torch():
    code = "import sys; from acfun_ops.__main__ import main\ntry: main(['--version'])\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    assert run_python(code) == [acfun_ops.__version__, "False"]
