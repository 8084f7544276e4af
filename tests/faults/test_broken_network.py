"""The cases of Oak's BrokenNetworkIT, by their names there, between real sockets.

Oak changes bytes of a connection once, sees that the sync through it fails, and that the next
one, without the fault, does not. Positions count the raw bytes from the master to the slave.
What Oak calls an intermediate change is a commit between the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_twisted
from copies import every_head_is_whole, head_of, same, sample_store, write
from failing import ANYWHERE, DOWN, FLIP, SKIP, Strike
from loopback import LoopbackProxy
from services import Master, Slave
from tls_made import Certs

from tarfailover.slave import status

pytestmark = pytest.mark.load

COMPLEMENT = 0xFF
SOON = {
    "deadline_tls_handshake": 0.3,
    "deadline_hello": 0.3,
    "deadline_answer": 0.3,
    "deadline_idle": 0.3,
}


class Case(NamedTuple):
    """One of Oak's cases."""

    does: str
    at: int
    amount: int
    tls: bool
    changes: bool = False


CASES = {
    "testProxySkippedBytes": Case(SKIP, 100, 1, tls=False),
    "testProxySSLSkippedBytes": Case(SKIP, 400, 10, tls=True),
    "testProxySkippedBytesIntermediateChange": Case(SKIP, 100, 1, tls=False, changes=True),
    "testProxySSLSkippedBytesIntermediateChange": Case(SKIP, 400, 10, tls=True, changes=True),
    "testProxyFlippedStartByte": Case(FLIP, 0, COMPLEMENT, tls=False),
    "testProxyFlippedStartByteSSL": Case(FLIP, 0, COMPLEMENT, tls=True),
    "testProxyFlippedIntermediateByte": Case(FLIP, 150, COMPLEMENT, tls=False),
    "testProxyFlippedIntermediateByteSSL": Case(FLIP, 560, COMPLEMENT, tls=True),
    "testProxyFlippedEndByte": Case(FLIP, 220, COMPLEMENT, tls=False),
    "testProxyFlippedEndByteSSL": Case(FLIP, 575, COMPLEMENT, tls=True),
}
"""testProxy and testProxySSL have no proxy, in spite of their names."""


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return Certs(tmp_path_factory.mktemp("certs"))


@pytest.mark.parametrize("name", CASES)
@pytest_twisted.ensureDeferred
async def test_broken_network(name: str, certs: Certs, tmp_path: Path) -> None:
    case = CASES[name]
    store, copy = tmp_path / "master", tmp_path / "slave"
    sample_store(store, nodes=1, binary_kib=0)
    ours, theirs = _tls(certs) if case.tls else ({}, {})
    strike = Strike(case.does, DOWN, ANYWHERE, case.at, case.amount)
    async with (
        Master(store, **ours) as master,
        LoopbackProxy(master.port, strike) as proxy,
        Slave(copy, proxy.port, **SOON, **theirs) as slave,
    ):
        await slave.reaches(lambda: slave.service.status.failures > 0, "a failure")
        assert proxy.proxy.struck_at is not None
        assert slave.states[-1] in (status.STALLED, status.FAILED)
        assert slave.service.copy is None or slave.service.copy.head is None, "heads must differ"
        if case.changes:
            write(store, seed=9)
        await slave.in_sync(head_of(store))
    same(store, copy)
    every_head_is_whole(copy)


def _tls(certs: Certs) -> tuple[dict[str, Any], dict[str, Any]]:
    trusted = {"tls_ca": certs.path("good/ca.pem")}
    return {**certs.shows("good/master"), **trusted}, {**certs.shows("good/oak"), **trusted}
