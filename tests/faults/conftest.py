"""Shows the table of the sweep at the end of pytest's output."""

from typing import Any

TABLES: list[str] = []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for table in TABLES:
        terminalreporter.section("scenarios under faults")
        terminalreporter.write_line(table)
