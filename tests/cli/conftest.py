"""Runs commands in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tarfailover.cli import main

Json = Callable[..., tuple[int, Any]]


@pytest.fixture
def run_json(capsys: pytest.CaptureFixture[str]) -> Json:
    """Runs a command with --json: the exit code, and the one document that it printed."""

    def run(*arguments: object) -> tuple[int, Any]:
        capsys.readouterr()
        code = main([*map(str, arguments), "--json"])
        printed = capsys.readouterr()
        if not code:
            assert printed.err == ""
        return code, json.loads(printed.out)

    return run


@pytest.fixture
def run_text(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Runs a command: the exit code, and the lines of its output."""

    def run(*arguments: object) -> tuple[int, list[str]]:
        capsys.readouterr()
        code = main(list(map(str, arguments)))
        printed = capsys.readouterr()
        assert printed.err == ""
        assert "\x1b" not in printed.out
        return code, printed.out.splitlines()

    return run
