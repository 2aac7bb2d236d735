"""Makes the project, and what helps the tests of ops and nodes, importable from every test.

They stand last on sys.path. Tests write `import tiny_models` or `from comfy_server import ...`.
The markers of a folder are set here; `slow` and `gpu` stand at the tests themselves. What was
skipped is said in the very last line, which nobody overlooks.
"""

import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "nodes" / "support"), str(ROOT / "tests" / "ops"), str(ROOT)]

# The longest groups, which are begun first: each keeps one process and one server busy.
LONG_GROUPS = ("server", "old_server", "page_server")
MARKED_FOLDERS = {"nodes": "comfyui", "browser": "browser"}
# A folder that all processes of a run share. The first makes it, and the others inherit its name.
SHARED_FOLDER = "ACFUN_TESTS_SHARED_FOLDER"
makes_shared_folder = SHARED_FOLDER not in os.environ
if makes_shared_folder:
    os.environ[SHARED_FOLDER] = tempfile.mkdtemp(prefix="acfun-tests-")

skipped_tests: Counter[str] = Counter()  # By reason.
skipped_files: Counter[str] = Counter()  # Test files that were skipped whole.


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its folder and its group, and begin with the longest groups.

    One process runs the tests of a file, and all those that share a server of a whole session.
    """
    for item in items:
        room = item.path.relative_to(ROOT / "tests").parts[0]
        if room in MARKED_FOLDERS:
            item.add_marker(MARKED_FOLDERS[room])
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    order = {name: position for position, name in enumerate(LONG_GROUPS)}
    items.sort(key=lambda item: order.get(group_of(item), len(order)))


def group_of(item: pytest.Item) -> str:
    """Return the server that a test uses for the whole session, or else its file."""
    names = set(getattr(item, "fixturenames", ()))
    if "either_server" in names:
        names.add(item.callspec.params["either_server"])
    return next((name for name in LONG_GROUPS if name in names), item.path.stem)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a skipped test; an expected failure is none."""
    if report.skipped and not hasattr(report, "wasxfail"):
        skipped_tests[_reason(report)] += 1


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Count a test file that was skipped whole."""
    if report.skipped:
        skipped_files[_reason(report)] += 1


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    _, _, reason = report.longrepr  # Of a skip: file, line and reason.
    return reason.removeprefix("Skipped: ")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """From a process of pytest-xdist, which alone sees them, send what files it skipped."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["skipped_files"] = dict(skipped_files)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the files that a process skipped; each process has seen all of them."""
    sent = getattr(node, "workeroutput", {}).get("skipped_files", {})  # None of one that crashed.
    for reason, count in sent.items():
        skipped_files[reason] = max(skipped_files[reason], count)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the shared folder; say last of all how many tests were skipped and why."""
    if makes_shared_folder:
        shutil.rmtree(os.environ.pop(SHARED_FOLDER), ignore_errors=True)
    skipped = skipped_tests + skipped_files
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and skipped:
        reasons = "; ".join(f"{count} because {why}" for why, count in skipped.most_common())
        line = f"NOT TESTED: {skipped.total()} tests were skipped: {reasons}"
        terminal.write_line(line, red=True, bold=True)
