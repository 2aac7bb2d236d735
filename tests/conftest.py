"""Makes the project, and the test harness in tests/comfyui, importable from every test.

Both stand last on sys.path. Tests write `import tiny_models` or `from comfy_server import ...`.
What was skipped is said in the very last line, which nobody overlooks.
"""

import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "comfyui"), str(ROOT)]

skipped: Counter[str] = Counter()  # Tests, or whole files of them, by reason.


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a skipped test."""
    count_skipped(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Count a test file that was skipped whole."""
    count_skipped(report)


def count_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Count what was skipped by its reason; an expected failure is none."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _, _, reason = report.longrepr  # Of a skip: file, line and reason.
        skipped[reason.removeprefix("Skipped: ")] += 1


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Say last of all how many tests were skipped and why."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and skipped:
        reasons = "; ".join(f"{count} because {why}" for why, count in skipped.most_common())
        line = f"NOT TESTED: {skipped.total()} tests were skipped: {reasons}"
        terminal.write_line(line, red=True, bold=True)
