"""Addresses of host names: looked up in time or not, again and again, and after failures."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from links import Rig

from tarfailover.access import names
from tarfailover.access.names import Names, look_up
from tarfailover.access.ranges import Address, address

ONE, TWO = address("10.0.0.1"), address("fd00::2")


class Resolver(dict[str, Any]):
    """Answers with what the test put in: addresses, or what to raise."""

    def __call__(self, name: str) -> frozenset[Address]:
        found = self[name]
        if isinstance(found, Exception):
            raise found
        return frozenset(found)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = Resolver()
    monkeypatch.setattr(names, "look_up", made)
    return made


class Looking:
    """Names that are looked up every minute, 5 seconds at the most."""

    def __init__(self, *wanted: str) -> None:
        self.rig = Rig()
        self.work = self.rig.work()
        self.names = Names(wanted, self.rig.clock, self.work, 60.0, 5.0)  # type: ignore[arg-type]
        self.ready: list[object] = []
        self.names.start().addCallback(self.ready.append)

    def stop(self) -> None:
        self.names.stop()
        assert not self.rig.delayed


def test_all_names_are_known_before_anybody_connects(resolver: Resolver) -> None:
    resolver.update(a=[ONE], b=[ONE, TWO])
    looking = Looking("a", "b")
    assert not looking.ready and not looking.names.addresses
    looking.rig.settle()
    assert looking.ready
    assert looking.names.addresses == {ONE, TWO}
    looking.stop()


def test_no_names_need_no_thread() -> None:
    looking = Looking()
    assert looking.ready and not looking.names.addresses
    looking.stop()


def test_they_are_looked_up_again(resolver: Resolver) -> None:
    resolver.update(a=[ONE])
    looking = Looking("a")
    looking.rig.pass_time(59, step=1)
    resolver.update(a=[TWO])
    assert looking.names.addresses == {ONE}
    looking.rig.pass_time(2, step=1)
    assert looking.names.addresses == {TWO}
    looking.stop()


def test_a_resolver_that_hangs_holds_nothing_up(resolver: Resolver, log: list[str]) -> None:
    resolver.update(a=[ONE], b=[TWO])
    looking = Looking("a", "b")
    looking.work.held = True
    looking.rig.pass_time(4.9)
    assert not looking.ready
    looking.rig.pass_time(0.2)
    assert looking.ready and not looking.names.addresses
    told = "deadline names of 5 s passed while waiting for the addresses of a; addresses allowed"
    assert sum(told in line for line in log) == 1
    looking.rig.pass_time(130, step=1)
    assert len(looking.work) == 2, "one at a time for each name, however long it takes"
    assert sum(told in line for line in log) == 1, "told once"
    looking.work.held = False
    looking.rig.settle()
    assert looking.names.addresses == {ONE, TWO}, "an answer that is late is an answer"
    looking.stop()


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
        (OSError(24, "Too many open files"), True),
        (UnicodeError("label too long"), True),
    ],
)
def test_what_fails_leaves_the_last_answer_unless_the_name_is_gone(
    resolver: Resolver, log: list[str], error: Exception, kept: bool
) -> None:
    resolver.update(a=[ONE])
    looking = Looking("a")
    looking.rig.settle()
    resolver.update(a=error)
    looking.rig.pass_time(190, step=1)
    assert looking.names.addresses == ({ONE} if kept else set())
    assert sum("a cannot be looked up" in line for line in log) == 1
    resolver.update(a=[TWO])
    looking.rig.pass_time(60, step=1)
    assert looking.names.addresses == {TWO}
    looking.stop()


def test_a_bug_is_logged_and_ends_nothing(resolver: Resolver, log: list[str]) -> None:
    resolver.update(a=RuntimeError("a bug"))
    looking = Looking("a")
    looking.rig.settle()
    assert looking.ready and any("looking up a failed" in line for line in log)
    resolver.update(a=[ONE])
    looking.rig.pass_time(61, step=1)
    assert looking.names.addresses == {ONE}
    looking.stop()


def test_stopped_while_it_looks(resolver: Resolver) -> None:
    resolver.update(a=[ONE])
    looking = Looking("a")
    looking.stop()
    assert looking.ready, "whoever waits is not left waiting"
    looking.rig.settle()
    assert not looking.rig.delayed


def test_the_system_knows_localhost() -> None:
    assert address("127.0.0.1") in look_up("localhost")
    assert look_up("::1") == {address("::1")}
