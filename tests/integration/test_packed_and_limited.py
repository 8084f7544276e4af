"""Compression and limits over real sockets and threads."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_twisted
from copies import head_of, same
from services import Master

MIB = 1024 * 1024


@pytest.mark.parametrize("compression", ["zstd", "none"])
@pytest_twisted.ensureDeferred
async def test_a_copy_is_the_same(sample: Path, tmp_path: Path, compression: str) -> None:
    limits = {"rate_limit": 64 * MIB, "rate_limit_client": 32 * MIB}
    master = Master(sample, compression=compression, **limits)
    async with master, AsyncExitStack() as stack:
        slave = await stack.enter_async_context(
            master.slave(tmp_path / "copy", rate_limit=16 * MIB)
        )
        await slave.in_sync(head_of(sample))
        assert master.service.factory is not None
        (client,) = master.service.factory.served
        smaller = client.sender.sent < client.sender.unpacked
        assert smaller is (compression == "zstd")
    same(sample, tmp_path / "copy")
