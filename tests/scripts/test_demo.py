"""The demo as somebody runs it, small: it works, shows it, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SECONDS = 240
SMALL = ("--nodes", "300", "--binary-kib", "64", "--commits", "2")


@contextmanager
def demo(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The demo under the Python of the tests; scripts/demo itself would make an environment."""
    command = [sys.executable, str(CHECKOUT / "scripts" / "_demo.py")]
    process = subprocess.Popen(
        [*command, "--directory", str(directory), *arguments],
        cwd=directory,
        env={k: v for k, v in os.environ.items() if k != "FORCE_COLOR"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        watchdog.join()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    with demo(directory, *arguments) as process:
        output, _ = process.communicate()
        return process.returncode, output


def living_in(directory: Path) -> list[str]:
    """The processes that work in `directory`, as the demo's do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            cwd = (process / "cwd").readlink()
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has ended, or is not ours
            continue
        if cwd.is_relative_to(directory):
            found.append(command.replace(b"\0", b" ").decode())
    return found


def digests(directory: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in directory.iterdir()
    }


def test_all_of_it(tmp_path: Path) -> None:
    code, output = run(tmp_path, *SMALL)
    assert code == 0, output
    assert "SIGKILL at " in output
    assert "nothing was pulled twice" in output
    assert output.count("equal: the same head") == 2
    assert "exit codes: slave2 0, slave 0, master 0" in output
    first, what = output.index("what "), "sample written first copy 2 commits followed the same"
    assert all(word in output[first:] for word in what.split())
    assert "All of it worked" in output.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
    assert living_in(tmp_path) == []


def test_with_a_store_of_real_oak(tmp_path: Path, fixture_store: Callable[[str], Path]) -> None:
    """This one has no index: its Oak was killed. It stays as it was, to the byte."""
    store = fixture_store("killed")
    before = digests(store)
    work = tmp_path / "work"
    work.mkdir()
    code, output = run(work, "--store", str(store), "--commits", "2")
    assert code == 0, output
    assert "nothing was pulled twice" in output
    assert digests(store) == before
    assert list(work.iterdir()) == []


def test_stopped_in_the_middle(tmp_path: Path) -> None:
    with demo(tmp_path, *SMALL) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "tarfailover-slave" in line:
                break
        assert any("tarfailover-master" in each for each in living_in(tmp_path))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    assert process.returncode == 130, output
    assert output.endswith("stopped by SIGINT; nothing was left running\n")
    assert living_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_no_store(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    code, output = run(tmp_path, "--store", str(tmp_path / "photos"))
    assert code == 1
    assert f"FAILED: {tmp_path / 'photos'}" in output
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
