"""Prints the seed and the table of the fault matrix, also when all is well."""

from __future__ import annotations

import pytest
from matrix import Report, seed_of_this_run

REPORT = Report(seed_of_this_run())


@pytest.fixture(scope="session")
def report() -> Report:
    """Where the outcome of each cell goes."""
    return REPORT


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table."""
    if REPORT.outcomes:
        terminalreporter.section("fault matrix")
        for line in REPORT.lines():
            terminalreporter.write_line(line)
