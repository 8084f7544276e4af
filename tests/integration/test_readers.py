"""Other processes read a copy while its slave writes it: one whole head at a time, each later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from beside import beside
from services import Master
from stores import add_heads, bulk, head_in, leaf, make_store, tar_bytes

from tarfailover.store.lock import RepositoryLock
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load

READERS = 3
COMMITS = 15
SEGMENTS = 3
"""Bulk segments of a commit."""
SIZE = 30_000
TAR_LIMIT = 400_000
SECONDS = 60
"""For a reader to end, on a busy machine."""
READING = Path(__file__).parents[1] / "support" / "reading.py"


def commit(store: Path, number: int) -> str:
    """Commit `number`: some bulk segments, and a node that needs them and the one before."""
    bulks = [bulk(SEGMENTS * number + each, SIZE) for each in range(SEGMENTS)]
    before = [leaf(number - 1).segment] if number else []
    node = leaf(number, [*before, *(each.segment for each in bulks)])
    name = f"data{number:05}a.tar"
    (store / name).write_bytes(tar_bytes(name, [*bulks, node]))
    add_heads(store, node.segment, time_ms=number + 1)
    return str(head_in(node.segment))


class Reader:
    """A process that reads a copy."""

    def __init__(self, copy: Path, stop: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(READING), str(copy), str(stop)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.first = ""

    def begin(self) -> None:
        """Wait until it has read a head."""
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline().strip()

    def heads(self) -> list[str]:
        """The heads that it met, once it was told to stop."""
        said, error = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, error
        return [self.first, *said.split()]


@pytest_twisted.ensureDeferred
async def test_readers_beside_a_slave_that_pulls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(StoreWriter.open.__func__.__kwdefaults__, "tar_limit", TAR_LIMIT)  # type: ignore[attr-defined]
    store, copy, stop = make_store(tmp_path / "store", {}), tmp_path / "copy", tmp_path / "stop"
    heads = [commit(store, 0)]
    async with Master(store) as master, master.slave(copy) as slave:
        await slave.in_sync()
        readers = [Reader(copy, stop) for _ in range(READERS)]
        for each in readers:
            await beside(each.begin)
        try:
            for number in range(1, COMMITS):
                heads.append(commit(store, number))
                await slave.reaches(
                    lambda: str(getattr(slave.service.copy, "head", "")) == heads[-1],
                    f"head {number}",
                )
        finally:
            stop.touch()
            met = [await beside(each.heads) for each in readers]
        assert slave.service.status.failures == 0
    assert len(list(copy.glob("data*.tar"))) > 3, "tars were closed and begun meanwhile"
    for seen in met:
        places = [heads.index(head) for head in seen]
        assert places == sorted(places), "no head is older than one that was seen before"
        assert len(places) > 2, "it met no other head"


@pytest_twisted.ensureDeferred
async def test_readers_neither_hold_nor_drop_the_lock(tmp_path: Path) -> None:
    """A process that closes any descriptor of the file drops its lock: no reader opens it."""
    store, copy, stop = make_store(tmp_path / "store", {}), tmp_path / "copy", tmp_path / "stop"
    commit(store, 0)
    async with Master(store) as master, master.slave(copy) as slave:
        await slave.in_sync()
        reading = Reader(copy, stop)
        await beside(reading.begin)
        commit(store, 1)
        await slave.in_sync()
        stop.touch()
        await beside(reading.heads)
        assert await beside(lambda: locked_for_others(copy))
    RepositoryLock.acquire(copy).release()


def locked_for_others(copy: Path) -> bool:
    """Whether another process is refused as a second writer."""
    ended = subprocess.run(
        [sys.executable, "-m", "tarfailover", "sample", "--append", str(copy)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return ended.returncode == 15
