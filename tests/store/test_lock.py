"""The lock on repo.lock: one process, one writer."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stores import QuickDisk, head_in, leaf

from tarfailover.errors import StoreIOError, StoreLockedError
from tarfailover.format.tar import TarName
from tarfailover.store import lock
from tarfailover.store.lock import RepositoryLock
from tarfailover.store.tarreader import TarReader
from tarfailover.store.writer import StoreWriter

SECONDS = 30
HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
TRY = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
try:
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    print("refused")
else:
    print("locked")
"""


def tried(directory: Path) -> str:
    command = [sys.executable, "-c", TRY, str(directory / lock.NAME)]
    return subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=SECONDS
    ).stdout.strip()


def test_others_are_kept_out_while_it_is_held_and_let_in_after(tmp_path: Path) -> None:
    with RepositoryLock.acquire(tmp_path):
        assert tried(tmp_path) == "refused"
    assert tried(tmp_path) == "locked"
    assert (tmp_path / lock.NAME).read_bytes() == b""


def test_a_lock_of_another_process_is_an_error_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / lock.NAME)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreLockedError, match=r"repo\.lock: another process has"):
            RepositoryLock.acquire(tmp_path)
        holder.communicate(timeout=SECONDS)
    RepositoryLock.acquire(tmp_path).release()


def test_the_same_process_gets_it_once_by_whatever_path(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    held = RepositoryLock.acquire(tmp_path / "store")
    with pytest.raises(StoreLockedError, match="this process has"):
        RepositoryLock.acquire(tmp_path / "link")
    # The refusal opened no second descriptor, whose closing would have dropped the lock.
    assert tried(tmp_path / "store") == "refused"
    held.release()
    held.release()
    assert tried(tmp_path / "store") == "locked"


def test_a_lock_that_a_copy_of_the_file_dropped_is_taken_again(tmp_path: Path) -> None:
    with RepositoryLock.acquire(tmp_path) as held:
        (tmp_path / lock.NAME).read_bytes()
        held.confirm()
        assert tried(tmp_path) == "refused"


def test_a_lock_that_was_dropped_and_taken_by_another_is_lost(tmp_path: Path) -> None:
    writer = StoreWriter.open(tmp_path, create=True, disk=QuickDisk())
    sample = leaf(1)
    writer.append(sample.segment, sample.data)
    (tmp_path / lock.NAME).read_bytes()
    command = [sys.executable, "-c", HOLD, str(tmp_path / lock.NAME)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreLockedError, match="another process"):
            writer.commit(head_in(sample.segment), 1)
        with pytest.raises(StoreLockedError, match="nothing more is written"):
            writer.flush()
        writer.close()
        holder.communicate(timeout=SECONDS)
    assert not (tmp_path / "journal.log").exists()
    reader = TarReader.open(tmp_path / "data00000a.tar", TarName(0))
    assert reader.index is None
    reader.release()


def test_a_lock_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / lock.NAME).mkdir()
    with pytest.raises(StoreIOError, match=r"repo\.lock: cannot open the lock file"):
        RepositoryLock.acquire(tmp_path)


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(StoreIOError, match=r"repo\.lock: cannot lock"):
        RepositoryLock.acquire(tmp_path)
    monkeypatch.undo()
    RepositoryLock.acquire(tmp_path).release()
