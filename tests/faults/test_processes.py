"""A few cells of the matrix between real processes: twistd, its sockets, its threads, its disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from copies import head_of, same, sample_store
from daemons import Daemon
from failing import ANYWHERE, BLACKHOLE, DOWN, FLIP, RESET, Strike
from loopback import LoopbackProxy
from tls_made import Certs
from twisted.internet.threads import deferToThread

pytestmark = pytest.mark.load

SOON = ("--deadline-idle", "0.5", "--deadline-answer", "0.5", "--retry-initial", "0.05")
IN_THE_MIDDLE = 1_500_000
"""Bytes: in the segments, whatever the sockets have buffered."""

CELLS = {
    "plain, blackhole": (BLACKHOLE, False, "stalled: deadline idle"),
    "plain, reset": (RESET, False, "stalled: the connection to the master ended"),
    "TLS, flip": (FLIP, True, "failed: "),
}


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return Certs(tmp_path_factory.mktemp("certs"))


@pytest.mark.parametrize("name", CELLS)
@pytest_twisted.ensureDeferred
async def test_in_the_middle_of_the_segments(name: str, certs: Certs, tmp_path: Path) -> None:
    does, encrypted, told = CELLS[name]
    store, copy = tmp_path / "master", tmp_path / "slave"
    sample_store(store)
    trusted = ("--tls-ca", certs.path("good/ca.pem")) if encrypted else ()
    with Daemon.master(store, *_shown(certs, "master", encrypted), *trusted) as master:
        port = await deferToThread(lambda: master.port)
        strike = Strike(does, DOWN, ANYWHERE, IN_THE_MIDDLE, 1)
        async with LoopbackProxy(port, strike) as proxy:
            shown = _shown(certs, "oak", encrypted)
            with Daemon.slave(copy, proxy.port, *SOON, *shown, *trusted) as slave:
                await deferToThread(slave.expect, told)
                await deferToThread(slave.expect, f"head {head_of(store)} is durable")
                assert proxy.proxy.struck_at is not None
                await deferToThread(slave.stop)
        await deferToThread(master.stop)
    same(store, copy)


def _shown(certs: Certs, stem: str, encrypted: bool) -> tuple[str, ...]:
    if not encrypted:
        return ()
    shown = certs.shows(f"good/{stem}")
    return ("--tls-certificate", shown["tls_certificate"], "--tls-key", shown["tls_key"])
