"""The master's answers to DIGEST: what is on the disk at this moment, and not what names say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from links import Rig
from sides import TAR, MasterSide, RawSlave, chain, large, store_of
from stores import data_id

from tarfailover.format.tar import BLOCK
from tarfailover.master import digests
from tarfailover.wire import messages as m
from tarfailover.wire.digests import digest, told
from tarfailover.wire.negotiate import DIGEST
from tarfailover.wire.stream import Refusal, Segment, StreamParser

SALT = b"s" * m.SALT_SIZE
SAMPLES = [*large(6, 100_000), *chain(5)]


@pytest.fixture
def master(tmp_path: Path) -> Iterator[MasterSide]:
    side = MasterSide(Rig(), store_of(tmp_path / "store", SAMPLES))
    held = side.holders
    yield side
    for link in side.rig.links:
        link.cut()
    side.rig.settle()
    assert side.holders == held, "a snapshot is still held"
    side.close()


def ask(slave: RawSlave, rig: Rig, ids: list[bytes], salt: bytes = SALT) -> list[Segment | Refusal]:
    slave.ask(m.Digest(tuple(ids), salt))
    rig.settle()
    *parts, end = slave.take()
    parser = StreamParser()
    found: list[Segment | Refusal] = []
    for part in parts:
        assert isinstance(part, m.Part)
        found += parser.feed(part.data)
    parser.end()
    assert end == m.End(len(found), parser.size)
    return found


def test_the_feature_is_chosen(master: MasterSide) -> None:
    slave, _ = master.connect()
    slave.ask(m.Hello("s", ("zstd", DIGEST)))
    master.rig.settle()
    (welcome,) = slave.take()
    assert isinstance(welcome, m.Welcome)
    assert welcome.features == ("zstd", DIGEST)


def test_digests_of_all_segments_in_the_order_asked_for(
    master: MasterSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "READ", 150_000)
    slave, _ = master.welcome()
    before = slave.received
    found = ask(slave, master.rig, [each.segment for each in SAMPLES])
    assert slave.received - before < 50 * len(SAMPLES) + 200, "digests are small"
    assert [item.segment for item in found] == [each.segment for each in SAMPLES]
    for item, sample in zip(found, SAMPLES, strict=True):
        assert isinstance(item, Segment)
        assert told(item) == digest(SALT, sample.data)


def test_they_are_read_anew_under_every_salt(master: MasterSide, tmp_path: Path) -> None:
    slave, _ = master.welcome()
    wanted = SAMPLES[0]
    (first,) = ask(slave, master.rig, [wanted.segment])
    (other,) = ask(slave, master.rig, [wanted.segment], b"t" * m.SALT_SIZE)
    assert isinstance(first, Segment)
    assert isinstance(other, Segment)
    assert told(first) != told(other)
    with (tmp_path / "store" / TAR).open("r+b") as file:
        file.seek(BLOCK + 70)
        file.write(bytes([wanted.data[70] ^ 1]))
    (damaged,) = ask(slave, master.rig, [wanted.segment])
    assert isinstance(damaged, Refusal)
    assert damaged.code == m.ErrorCode.DAMAGED
    assert TAR in damaged.text and "checksum" in damaged.text


def test_what_is_not_there(master: MasterSide) -> None:
    slave, _ = master.welcome()
    found = ask(slave, master.rig, [SAMPLES[0].segment, data_id(99), SAMPLES[1].segment])
    assert isinstance(found[1], Refusal)
    assert found[1].code == m.ErrorCode.SEGMENT_GONE
    assert isinstance(found[2], Segment)
