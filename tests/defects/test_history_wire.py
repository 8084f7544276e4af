"""The history of Oak's bugs, as far as what comes over a standby's line can have them.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from links import Rig
from oak_sides import serving
from planted import BOTH, found
from sides import SlaveSide, chain
from stores import bulk, leaf

from tarfailover.slave import status
from tarfailover.wire.oak import answers, frames, snappy
from tarfailover.wire.oak.snappy import Unpacker

pytestmark = pytest.mark.load

BULKS = [bulk(number, 3000) for number in range(3)]
SAMPLES = [*BULKS, *chain(3), leaf(100, [*(each.segment for each in BULKS), leaf(2).segment])]
WHOLE = {each.segment: each.data for each in SAMPLES}


@BOTH
def test_oak_2861_bytes_in_small_pieces_are_not_copied_again_and_again(
    planted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that begins anew with each piece is the slower the larger the answer."""
    copied = 0

    def counted(data: Any) -> bytes:
        nonlocal copied
        copied += len(data)
        return bytes(data)

    if planted:
        feed = Unpacker.feed

        def replayed(self: Unpacker, piece: bytes) -> list[bytes]:
            before = getattr(self, "_seen", b"")
            self._seen = seen = before + piece  # type: ignore[attr-defined]
            return feed(Unpacker(), seen)[len(feed(Unpacker(), before)) :]

        monkeypatch.setattr(Unpacker, "feed", replayed)
    blob = bulk(1, 200_000).data
    stream = snappy.Packer().pack(*answers.blob_chunk("b", len(blob), blob, first=True, last=True))
    monkeypatch.setattr(snappy, "bytes", counted, raising=False)
    unpacker, parser, came = Unpacker(), frames.AnswerParser(), bytearray()
    for at in range(0, len(stream), 500):
        for part in unpacker.feed(stream[at : at + 500]):
            for answer in parser.feed(part):
                came += answer.data  # type: ignore[union-attr]
    assert came == blob
    with found(planted):
        assert copied < 4 * len(stream)


# the line


@BOTH
@pytest.mark.parametrize("how", ["flipped", "left out"])
def test_broken_network_nothing_wrong_is_stored(
    planted: bool, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BrokenNetworkIT: one byte, at the places where Oak's test has it and further on."""
    if planted:
        monkeypatch.setattr(snappy, "_netty_masked", lambda _: mock.ANY)
        monkeypatch.setattr(frames, "murmur", lambda *_: mock.ANY)
    wrong = []
    for at in [0, 100, 150, 220, 2000, 5000, 8000]:
        rig = Rig()
        served = serving(rig, SAMPLES)
        slave = SlaveSide(rig, tmp_path / f"{at}", dialect="oak", deadline_answer=2.0,
                          deadline_idle=2.0, deadline_hello=2.0)  # fmt: skip
        slave.service.startService()
        rig.until(lambda rig=rig: bool(rig.links), "a connection")  # type: ignore[misc]
        rig.link.master.alter = _broken(at, how)
        rig.settle()
        rig.pass_time(6, step=0.5)
        if (slave.state, slave.head, slave.held(SAMPLES)) != (status.IN_SYNC, served.head, WHOLE):
            wrong.append(at)
        slave.stop()
    with found(planted):
        assert wrong == []


def _broken(at: int, how: str) -> Callable[[int, bytes], bytes]:
    def alter(offset: int, data: bytes) -> bytes:
        place = at - offset
        if not 0 <= place < len(data):
            return data
        new = bytes([data[place] ^ 0xFF]) if how == "flipped" else b""
        return data[:place] + new + data[place + 1 :]

    return alter
