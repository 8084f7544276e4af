"""The parts of the demo: its processes, its slow line, its view of stores, its bars."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest
from _demo_line import PIECE, SlowLine
from _demo_processes import DemoError, Interrupted, Servers, Wish
from _demo_show import Row, Show
from _demo_stores import Amount, Watch, check_space, copy_store, files_of, needed, store_in

from tarfailover.errors import NotAStoreError
from tarfailover.repository.sample import write_sample
from tarfailover.store.writer import StoreWriter

FAST = 1e9


def nothing(_: object) -> None:
    pass


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    store = tmp_path / "sample"
    with StoreWriter.open(store, create=True) as writer:
        write_sample(writer, nodes=20, binary_kib=8, commits=1, seed=7)
    return store


# processes


def test_a_process_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    with Servers(tmp_path, Wish()) as servers:
        absent = str(tmp_path / "absent")
        servers.start("master", "tarfailover-master", "--store", absent, "--port", "0")
        with pytest.raises(DemoError, match="master ended by itself with exit code 11"):
            servers.until("what never comes", 60, lambda: False)
        assert f"{absent} is no directory" in servers.tails()
        assert servers.stop() == {}


def test_a_wait_ends_when_nothing_moves(tmp_path: Path) -> None:
    servers = Servers(tmp_path, Wish())
    moves = iter([1, 2, 3])
    seen = []

    def moving() -> int:
        seen.append(next(moves, 3))
        return seen[-1]

    with pytest.raises(DemoError, match=r"0\.01 s in vain for godot"):
        servers.until("godot", 0.01, lambda: False, moving)
    assert seen[-1] == 3


def test_a_command_and_its_exit_code(tmp_path: Path, sample: Path) -> None:
    with Servers(tmp_path, Wish()) as servers:
        code, output = servers.run("head", "--json", str(sample), seconds=60)
        assert code == 0 and '"head"' in output
        code, output = servers.run("head", str(tmp_path / "absent"), seconds=60)
        assert code == 11 and "absent" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_acted_upon_where_it_is_asked_for(number: signal.Signals) -> None:
    wish, before = Wish(), signal.getsignal(number)
    with wish.heeded():
        wish.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted, match=number.name) as raised:
            wish.check()
    assert raised.value.exit_code == 128 + number
    assert signal.getsignal(number) is before


# the line


class Source:
    """A server that sends `size` bytes to whoever comes, and echoes the first that it gets."""

    def __init__(self, size: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._size = size
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            asked = client.recv(100)
            try:
                client.sendall(asked + bytes(self._size))
            except OSError:  # cut in the middle, as some tests want
                return

    def __enter__(self) -> Source:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()


def received(client: socket.socket, size: int) -> bytes:
    """At most `size` bytes, fewer only at the end of the stream."""
    found = b""
    while len(found) < size and (piece := client.recv(size - len(found))):
        found += piece
    return found


def test_the_line_forwards_both_ways() -> None:
    with Source(3 * PIECE) as source, SlowLine(source.port, FAST) as line:
        with socket.create_connection(("127.0.0.1", line.port), 60) as client:
            client.sendall(b"hello")
            assert received(client, 10 * PIECE) == b"hello" + bytes(3 * PIECE)
        assert line.passed == 3 * PIECE + 5


def test_the_line_stands_still_at_its_limit_and_goes_on() -> None:
    with Source(100 * PIECE) as source, SlowLine(source.port, FAST) as line:
        line.limit(10 * PIECE)
        with socket.create_connection(("127.0.0.1", line.port), 60) as client:
            client.sendall(b"hello")
            assert len(received(client, 10 * PIECE)) == 10 * PIECE
            assert line.stands
            assert 10 * PIECE <= line.passed < 11 * PIECE
            line.limit(None)
            assert not line.stands
            assert len(received(client, 100 * PIECE)) == 90 * PIECE + 5


def test_the_line_ends_while_it_stands() -> None:
    with Source(100 * PIECE) as source, SlowLine(source.port, FAST) as line:
        line.limit(PIECE)
        client = socket.create_connection(("127.0.0.1", line.port), 60)
        client.sendall(b"hello")
        assert len(received(client, PIECE)) == PIECE
    with client:
        assert len(received(client, 100 * PIECE)) < PIECE


def test_the_line_without_a_master() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with (
        SlowLine(port, FAST) as line,
        socket.create_connection(("127.0.0.1", line.port), 60) as client,
    ):
        assert client.recv(1) == b""


# stores


def test_what_is_needed_is_what_is_there(sample: Path) -> None:
    head, amount = needed(sample)
    with StoreWriter.open(sample) as writer, writer.snapshot() as snapshot:
        assert head == str(writer.head)
        assert amount.segments == snapshot.count
    assert amount.size < sum(path.stat().st_size for path in sample.iterdir())


def test_a_copy_of_a_store(tmp_path: Path, sample: Path) -> None:
    (sample / "repo.lock").touch()
    (sample / "data00000a.tar.bak").write_bytes(b"not part of it")
    told: list[int] = []
    copy_store(sample, tmp_path / "copy", told.append)
    assert files_of(sample)[0].name == "journal.log"
    assert told[-1] == sum(path.stat().st_size for path in files_of(sample))
    assert {p.name for p in (tmp_path / "copy").iterdir()} == {p.name for p in files_of(sample)}
    assert needed(tmp_path / "copy") == needed(sample)


def test_a_store_that_loses_a_tar_while_it_is_copied(tmp_path: Path, sample: Path) -> None:
    def removed(_: int) -> None:
        (sample / "data00000a.tar").unlink(missing_ok=True)

    with pytest.raises(DemoError, match=r"data00000a\.tar.*try again"):
        copy_store(sample, tmp_path / "copy", removed)


def test_the_store_of_a_repository(tmp_path: Path) -> None:
    assert store_in(tmp_path) == tmp_path
    (tmp_path / "segmentstore").mkdir()
    assert store_in(tmp_path) == tmp_path / "segmentstore"


def test_watching_a_directory_that_comes_to_be(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with Watch(store) as watch:
        assert watch.amount(at_once=True) == Amount(0, 0)
        assert not watch.has_head
        with StoreWriter.open(store, create=True) as writer:
            write_sample(writer, nodes=1, binary_kib=0, commits=1, seed=1)
            assert watch.amount(at_once=True) == needed(store).amount
            assert watch.has_head


def test_no_store_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError):
        needed(tmp_path)


def test_space(tmp_path: Path) -> None:
    check_space(tmp_path, 1)
    with pytest.raises(DemoError, match="--directory"):
        check_space(tmp_path, 2**60)


def test_amounts() -> None:
    assert str(Amount(1234, 3 * 1024 * 1024 // 2)) == "1,234 segments, 1.5 MiB"
    assert Amount(3, 30).without(Amount(1, 20)) == Amount(2, 10)


# what is shown


def test_a_bar_that_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show()
    with show.bar("MiB", 10.0) as moved:
        for done in (0.0, 1.0, 2.6, 2.7, 10.0, 10.0):
            moved(done)
    assert capsys.readouterr().out == "   2.6 of 10.0 MiB\n   10.0 of 10.0 MiB\n"


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show()
    show.happened(Row("a thing", 1000, 2 * 1024 * 1024, 0.5))
    show.happened(Row("another one", 1, 1024 * 1024, 2.0, rated=False))
    show.table()
    assert capsys.readouterr().out.splitlines() == [
        "",
        "what         segments  MiB  seconds  MiB/s",
        "a thing         1,000  2.0     0.50    4.0",
        "another one         1  1.0     2.00       ",
    ]
