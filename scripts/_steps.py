"""Steps of a script: commands that run beside each other, each with a verdict, and a summary.

Only the standard library, as `_env`: the scripts that use it make their environments first.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import _env

STEP_SECONDS = 900
ROOM = 4 * 1024**3  # bytes free in memory before the tests' temporary files go there
NO_TESTS = 5  # pytest's exit code if there was nothing to run


class Step(NamedTuple):
    """A command that must end with 0, run in the environment `home` (test or oldest)."""

    name: str
    home: str
    command: tuple[str, ...]
    shown: bool = False  # also when all went well
    may_be_none: bool = False  # no test chosen is no fault
    variables: Mapping[str, str] = {}  # set for it

    def accepts(self, code: int | None) -> bool:
        """Whether ending with `code` is success."""
        return code == 0 or (code == NO_TESTS and self.may_be_none)


class Result(NamedTuple):
    """How a step went; `said` is the last line that it printed."""

    step: Step
    ok: bool
    seconds: float
    output: str

    @property
    def said(self) -> str:
        """The last line of the output, without pytest's ornaments and ruff's hint on fixes."""
        lines = [x for x in self.output.splitlines() if x.strip() and not x.startswith("[*]")]
        return lines[-1].strip(" =") if lines else ""


def quick_files() -> dict[str, str]:
    """Temporary files in memory where there is room: the tests sync some ten thousand times."""
    memory = Path("/dev/shm")  # noqa: S108 -- only where the tests' own temporary files go
    if "TMPDIR" in os.environ or not os.access(memory, os.W_OK):
        return {}
    return {"TMPDIR": str(memory)} if shutil.disk_usage(memory).free > ROOM else {}


async def run_all(steps: list[Step], homes: Mapping[str, Path]) -> list[Result]:
    """Run all steps, some at a time; `homes` has the programs of each environment."""
    turn = asyncio.Semaphore((os.cpu_count() or 1) + 1)  # one more: tests often wait for sockets
    return await asyncio.gather(*(run(step, homes[step.home], turn) for step in steps))


async def run(step: Step, binaries: Path, turn: asyncio.Semaphore) -> Result:
    """Run `step` when it is its turn; nothing that it started outlives it."""
    async with turn:
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            binaries / step.command[0],
            *step.command[1:],
            cwd=_env.ROOT,
            env={**_env.clean_environ(), **quick_files(), **step.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), STEP_SECONDS)
        except asyncio.TimeoutError:
            output = f"did not end within {STEP_SECONDS} s, killed".encode()
        finally:
            kill_group(process.pid)
            await process.wait()
    seconds, text = time.monotonic() - started, output.decode(errors="replace")
    result = Result(step, step.accepts(process.returncode), seconds, text)
    report(result)
    return result


def kill_group(group: int) -> None:
    """End what is left of a step's process group, if anything is."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def report(result: Result) -> None:
    """Print what a step said, if it failed or is worth reading anyway."""
    if not result.ok or result.step.shown:
        print(f"\n--- {result.step.name}: {' '.join(result.step.command)}")
        print(result.output.rstrip(), flush=True)


def summary(results: list[Result], seconds: float) -> str:
    """One line for each step, and one for all."""
    rows = [
        f"{r.step.name:<14} {'ok' if r.ok else 'FAILED':<7} {r.seconds:7.1f}  {r.said[:70]}"
        for r in results
    ]
    bad = [r.step.name for r in results if not r.ok]
    verdict = f"FAILED: {'; '.join(bad)}" if bad else "all is well"
    head = f"{'step':<14} {'result':<7} {'seconds':>7}  last words"
    return "\n".join(["", head, *rows, f"{verdict} ({seconds:.0f} s)"])


def stopped_by_sigterm() -> None:
    """Make SIGTERM cancel the running task, so that no step outlives the script."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
