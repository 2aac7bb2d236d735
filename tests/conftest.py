"""Makes the project, and the test harness in tests/nodes, importable from every test.

Both stand last on sys.path. Tests write `import tiny_models` or `from comfy_server import ...`.
What was skipped is said in the very last line, which nobody overlooks.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "nodes" / "support"), str(ROOT)]

SERVERS = {"server", "old_server", "either_server"}

skipped_tests: Counter[str] = Counter()  # By reason.
skipped_files: Counter[str] = Counter()  # Test files that were skipped whole.


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker that pytest-xdist reads, which may be missing."""
    config.addinivalue_line("markers", "xdist_group(name): what one process runs")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep in one process the tests of a file, and all that share a server of a whole session."""
    for item in items:
        shares = SERVERS.intersection(getattr(item, "fixturenames", ()))
        group = "servers" if shares else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


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
    """Say last of all how many tests were skipped and why."""
    skipped = skipped_tests + skipped_files
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and skipped:
        reasons = "; ".join(f"{count} because {why}" for why, count in skipped.most_common())
        line = f"NOT TESTED: {skipped.total()} tests were skipped: {reasons}"
        terminal.write_line(line, red=True, bold=True)
