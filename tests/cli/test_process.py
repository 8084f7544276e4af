"""The command line as real processes: entry points, pipes, terminals, signals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import handmade as hm
import pytest

from tarfailover import __version__

pytestmark = pytest.mark.load

NAME = "data00000a.tar"
BULK = hm.bulk(0x81, 700)
TOP = hm.data(0x71, BULK)
MODULE = (sys.executable, "-m", "tarfailover")
SECONDS = 60
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    tars = {NAME: hm.closed_tar(NAME, (BULK, TOP))}
    return hm.store(tmp_path / "healthy", tars, hm.line(TOP))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*MODULE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def on_a_terminal(width: int, *arguments: object) -> tuple[int, str]:
    """Exit code and output of a command that has a terminal of `width` columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "", "LINES": ""}
    with subprocess.Popen(
        [*MODULE, *map(str, arguments)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={key: value for key, value in environment.items() if value},
    ) as process:
        os.close(follower)
        received = b""
        while select.select([leader], [], [], SECONDS)[0]:
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # the last process that had the terminal has ended
                break
            received += chunk
        os.close(leader)
        return process.wait(SECONDS), received.decode().replace("\r\n", "\n")


def test_the_module_and_the_script() -> None:
    assert run("--version").stdout == f"tarfailover {__version__}\n"
    script = Path(sys.executable).with_name("tarfailover")
    if not script.exists():
        pytest.skip(f"no {script}: the package is not installed in this environment")
    said = subprocess.run(
        [script, "--version"], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert said.stdout == f"tarfailover {__version__}\n"


def test_in_a_pipe_there_is_no_bar_and_no_colour(healthy: Path) -> None:
    done = run("check", healthy)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout.endswith("no fault\n")


def test_errors_are_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = run("head", tmp_path)
    assert done.returncode == 11
    assert done.stdout == ""
    assert done.stderr == f"tarfailover: {tmp_path} holds no segment store\n"


def test_a_reader_who_goes_away_is_no_error(healthy: Path) -> None:
    (healthy / "journal.log").write_bytes(hm.line(TOP) * 3000)
    with subprocess.Popen(
        [*MODULE, "journal", "--limit", "0", str(healthy)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"time")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == 141


def test_an_interrupt_ends_quietly_and_leaves_a_store_that_opens(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    arguments = ("sample", str(directory), "--nodes", "1000000", "--commits", "100000")
    with subprocess.Popen([*MODULE, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        journal = directory / "journal.log"
        while process.poll() is None and not (journal.exists() and journal.stat().st_size):
            select.select([process.stderr], [], [], 0.05)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "tarfailover: interrupted\n"
        assert process.wait(SECONDS) == 130
    checked = json.loads(run("check", "--json", directory).stdout)
    assert checked["faults"] == 0
    assert checked["head"] is not None


@pytest.mark.parametrize(("width", "ruled"), [(60, False), (200, True)])
def test_on_a_terminal_nothing_is_cut_off(healthy: Path, width: int, ruled: bool) -> None:
    code, printed = on_a_terminal(width, "journal", healthy)
    assert code == 0
    assert ("─" in printed) == ruled
    plain = ESCAPES.sub("", printed)
    assert str(hm.RecordId(TOP.segment, 1)) in plain
    assert "generation 0/0, the head" in plain
    assert "…" not in plain


def test_on_a_terminal_faults_are_red_and_told_once(healthy: Path) -> None:
    hm.flip(healthy / NAME, 600)
    code, printed = on_a_terminal(70, "check", healthy)
    assert code == 1
    assert "\x1b[1;31mFAULT" in printed
    told = [line for line in ESCAPES.sub("", printed).splitlines() if "checking" not in line]
    assert max(map(len, told)) <= 70
    assert sum(line.startswith("       ") for line in told) > 3
    assert printed.count("FAULT") == 1
    assert "1 fault" in ESCAPES.sub("", printed)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("sample", "--nodes", "40", "--commits", "2"), ["writing", "40/40 nodes", "added"]),
        (("check",), ["checking", "no fault"]),
        (("digest",), ["reading the content", "digest"]),
    ],
    ids=lambda each: each[0],
)
def test_on_a_terminal_there_is_a_sign_of_life(
    tmp_path: Path, command: tuple[str, ...], said: list[str]
) -> None:
    directory = tmp_path / "store"
    if command[0] != "sample":
        assert run("sample", directory, "--nodes", "20").stderr == ""
    code, printed = on_a_terminal(120, *command, directory)
    assert code == 0
    assert [each for each in said if each not in ESCAPES.sub("", printed)] == []


def test_on_a_terminal_json_is_still_only_json(healthy: Path) -> None:
    code, printed = on_a_terminal(80, "check", "--json", healthy)
    assert code == 0
    assert json.loads(printed)["faults"] == 0
