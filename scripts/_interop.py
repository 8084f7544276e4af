"""What scripts/interop does: runs the tests with each release of Oak, and prints the matrix."""

from __future__ import annotations

import _env  # isort: skip -- first: it tells a Python that is too old

import asyncio
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from _steps import Result, Step, run_all, stopped_by_sigterm, summary

RELEASES = ("1.82", "1.22")
TOOLS = ("java", "javac", "mvn")
REQUIRED = "TARFAILOVER_INTEROP"


def missing_tools() -> list[str]:
    """What is not on the PATH."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def steps(cells: Path, chosen: list[str]) -> list[Step]:
    """One run of the tests for each release, which leaves its cells of the matrix in a file."""
    named = any((_env.ROOT / word.partition("::")[0]).exists() for word in chosen)
    where = chosen if named else [*chosen, "tests/interop"]
    command = ("pytest", "-m", "interop", "-p", "no:cacheprovider", *where)
    return [
        Step(
            f"Oak {release}",
            "test",
            command,
            shown=True,
            variables={"OAK_RELEASE": release, "OAK_CELLS": str(cells / release)},
        )
        for release in RELEASES
    ]


def table(cells: Path) -> str:
    """The matrix: what was tried, and how it went with each release."""
    files = {release: cells / release for release in RELEASES}
    columns = {r: json.loads(f.read_text()) if f.exists() else {} for r, f in files.items()}
    names = sorted({name for column in columns.values() for name in column})
    width = max([len(name) for name in names], default=0)
    head = f"{'the matrix':<{width}}   " + "  ".join(f"{'Oak ' + r:<9}" for r in RELEASES)
    rows = [
        f"{name:<{width}}   " + "  ".join(f"{columns[r].get(name, '-'):<9}" for r in RELEASES)
        for name in names
    ]
    return "\n".join(["", head, *rows]) if rows else ""


async def main(chosen: list[str]) -> int:
    """Run everything and print table and summary; the exit code of the script."""
    stopped_by_sigterm()
    started = time.monotonic()
    if missing := missing_tools():
        required = os.environ.get(REQUIRED) == "required"
        print(f"{'FAILED' if required else 'not run'}: no {', no '.join(missing)} on the PATH;")
        print("real Oak needs a JDK and Maven (Debian, Ubuntu: default-jdk-headless and maven)")
        return int(required)
    try:
        binaries = await asyncio.to_thread(_env.environment, "test", "-e", ".[test,lint]")
    except _env.NoEnvironmentError as why:
        print(f"FAILED: {why}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        results: list[Result] = await run_all(steps(Path(folder), chosen), {"test": binaries})
        print(table(Path(folder)))
    print(summary(results, time.monotonic() - started))
    return 0 if all(r.ok for r in results) else 1
