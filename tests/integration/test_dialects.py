"""A slave in either dialect of one master, over real sockets and TLS."""

from __future__ import annotations

from pathlib import Path

import pytest_twisted
from copies import head_of, same, write
from services import Master
from tls_made import Certs


@pytest_twisted.ensureDeferred
async def test_a_slave_in_each_dialect(sample: Path, tmp_path: Path) -> None:
    certs = Certs(tmp_path)
    tls = {"tls_ca": certs.path("good/ca.pem"), **certs.shows("good/oak")}
    demanding = {**certs.shows("good/master"), "tls_ca": certs.path("good/ca.pem")}
    async with (
        Master(sample, **demanding) as master,
        master.slave(tmp_path / "native", **tls) as native,
        master.slave(tmp_path / "oak", dialect="oak", interval=0.1, **tls) as oak,
    ):
        for slave in (native, oak):
            await slave.in_sync(head_of(sample))
        head = write(sample, seed=10)
        for slave in (native, oak):
            await slave.in_sync(head)
        assert master.service.factory is not None
        spoken = {client.dialect for client in master.service.factory.served}
        assert spoken == {"native", "oak"}
    same(sample, tmp_path / "native")
    same(sample, tmp_path / "oak")
