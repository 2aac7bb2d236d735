"""tests/run on a fresh machine, and what its last line says of tests that were skipped."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow  # They run pytest in processes of its own.
TOOLS = ("python", "ruff", "mypy", "pytest")


@pytest.fixture
def fresh(tmp_path):
    """Return a function that runs the script where all tools are stubs that note their calls."""
    if os.name == "nt" or shutil.which("bash") is None:
        pytest.skip("the script needs bash")
    tools, calls = tmp_path / "project" / ".venv" / "bin", tmp_path / "calls"
    tools.mkdir(parents=True)
    (tmp_path / "project" / "tests").mkdir()
    for script in ("run", "check"):
        shutil.copy(ROOT / "tests" / script, tmp_path / "project" / "tests")
    for tool in TOOLS:
        _script(tools / tool, f'echo "{tool} $*" >> {calls}')

    def run(git, *arguments, comfyui=tmp_path / "comfy"):
        _script(tools / "git", f'echo "git $*" >> {calls}\n{git}')
        calls.write_text("")
        outcome = subprocess.run(
            ["bash", "tests/run", *arguments],
            cwd=tmp_path / "project",
            env=os.environ | {"COMFYUI_PATH": str(comfyui)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return outcome, calls.read_text().splitlines()

    return run


def _script(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


CLONES = 'for last; do :; done; mkdir -p "$last"; touch "$last/main.py"'


@pytest.mark.parametrize("job", [[], ["main-job"]])
def test_a_fresh_machine_brings_comfyui_once_and_its_requirements(fresh, job, tmp_path):
    outcome, calls = fresh(CLONES, *job)
    assert outcome.returncode == 0, outcome.stderr
    clones = [call for call in calls if call.startswith("git clone")]
    assert len(clones) == 1 and "--depth 1" in clones[0] and clones[0].endswith("/comfy")
    assert f"{tmp_path}/comfy/requirements.txt" in "\n".join(calls)
    _, calls = fresh(CLONES, *job)
    assert not [call for call in calls if call.startswith("git")]


def test_where_comfyui_cannot_be_brought_the_other_tests_run(fresh):
    outcome, calls = fresh("exit 128", "-q")
    assert outcome.returncode == 0
    assert "ComfyUI could not be cloned" in outcome.stderr
    assert [call for call in calls if "requirements.txt" in call] == []
    assert calls[-1] == "pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder -q"


def test_the_main_job_ends_where_comfyui_cannot_be_brought(fresh):
    outcome, calls = fresh("exit 128", "main-job")
    assert outcome.returncode != 0
    assert "ComfyUI could not be cloned" in outcome.stderr
    assert not [call for call in calls if "main_job.py" in call]


def run_pytest(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


IN_PROCESSES = pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["one", "two"])


@IN_PROCESSES
def test_without_comfyui_the_last_line_says_what_was_skipped(processes, tmp_path):
    outcome = run_pytest(ROOT / "tests" / "nodes", *processes, COMFYUI_PATH=str(tmp_path))
    lines = outcome.stdout.splitlines()
    assert outcome.returncode == 0
    skipped = re.search(r"(\d+) skipped", outcome.stdout)[1]
    assert lines[-1].startswith(f"NOT TESTED: {skipped} tests were skipped: ")
    assert str(tmp_path) in lines[-1] and "COMFYUI_PATH" in lines[-1]


@IN_PROCESSES
def test_files_that_are_skipped_whole_are_counted_once(processes, tmp_path):
    for name in ("first", "second"):
        skip = f"import pytest\n\npytest.importorskip('absent', reason='it is {name}')\n"
        (tmp_path / f"test_{name}.py").write_text(skip)
    (tmp_path / "test_third.py").write_text("def test_third(): pass\n")
    arguments = ["-p", "conftest", "--rootdir", tmp_path, tmp_path, *processes]
    outcome = run_pytest(*arguments, PYTHONPATH=str(ROOT / "tests"))
    last = outcome.stdout.splitlines()[-1]
    assert last == "NOT TESTED: 2 tests were skipped: 1 because it is first; 1 because it is second"


def test_where_nothing_was_skipped_nothing_is_said():
    outcome = run_pytest(ROOT / "tests" / "ops" / "test_errors.py")
    assert outcome.returncode == 0
    assert "NOT TESTED" not in outcome.stdout


def test_the_tests_of_a_file_stay_in_one_process():
    """pytest 9.2 has no place for the group that pytest-xdist 3.8 writes to a test's name."""
    files = [ROOT / "tests" / name for name in ("test_names.py", "test_layers.py")]
    outcome = run_pytest(*files, "-v", "-n", "2", "--dist", "loadgroup")
    passed = re.findall(r"\[(gw\d)\].*PASSED tests/(\w+)\.py", outcome.stdout)
    assert {file for _, file in passed} == {"test_names", "test_layers"}
    assert len(set(passed)) == 2


def test_lint_takes_the_folder_that_the_readme_clones_into(tmp_path):
    clone = tmp_path / "ComfyUI-ACFun"  # No name of a Python package, but the outermost one's.
    packages = [ROOT / "__init__.py", *ROOT.glob("*/__*__.py"), *ROOT.glob("*/*/__*__.py")]
    for path in [ROOT / "pyproject.toml", *packages]:
        (clone / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, clone / path.relative_to(ROOT))
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    outcome = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert len(packages) > 10
    assert outcome.returncode == 0, outcome.stdout
