"""Segment ids, record ids and generations: text forms, kinds and order."""

from __future__ import annotations

import contextlib
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tarfailover import ids
from tarfailover.errors import FormatError
from tarfailover.ids import Generation, RecordId

DATA = bytes.fromhex("c7c4568a55a24052ab61df77298103ae")
BULK = bytes.fromhex("07c4568a55a24052bb61df77298103ae")
DATA_TEXT = "c7c4568a-55a2-4052-ab61-df77298103ae"

segment_ids = st.binary(min_size=16, max_size=16)
record_ids = st.builds(RecordId, segment_ids, st.integers(0, ids.MAX_RECORD_NUMBER))


def test_the_kind_is_the_first_digit_of_the_fourth_group() -> None:
    assert (ids.is_data(DATA), ids.is_bulk(DATA), ids.kind(DATA)) == (True, False, "data")
    assert (ids.is_data(BULK), ids.is_bulk(BULK), ids.kind(BULK)) == (False, True, "bulk")
    for other in (ids.NULL_ID, bytes(8) + b"\x80" + bytes(7), bytes(8) + b"\xca" + bytes(7)):
        assert (ids.is_data(other), ids.is_bulk(other)) == (False, False)
        assert ids.kind(other) == "unknown"


@given(segment_ids)
def test_text_is_that_of_uuid(segment: bytes) -> None:
    assert ids.text(segment) == str(uuid.UUID(bytes=segment))
    assert ids.parse(ids.text(segment)) == segment


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        DATA_TEXT.upper(),
        DATA_TEXT + "\n",
        " " + DATA_TEXT,
        DATA_TEXT.replace("-", ""),
        DATA_TEXT[:-1],
        "g" + DATA_TEXT[1:],
        DATA_TEXT.replace("7", "\N{ARABIC-INDIC DIGIT SEVEN}"),
    ],
)
def test_only_lower_case_with_hyphens_is_an_id(wrong: str) -> None:
    with pytest.raises(FormatError, match="is not a lower-case UUID"):
        ids.parse(wrong)


@given(st.text(max_size=80) | st.from_regex(r"\A[0-9a-fA-F-]{36}[:.]?[0-9a-f]{0,12}\Z"))
@example("1" * 100)
def test_any_text_is_an_id_or_refused(written: str) -> None:
    with contextlib.suppress(FormatError):
        assert ids.text(ids.parse(written)) == written
    with contextlib.suppress(FormatError):
        record = RecordId.parse(written)
        assert written in (str(record), record.hex)


@given(st.lists(segment_ids))
def test_signed_order_is_that_of_two_signed_longs(segments: list[bytes]) -> None:
    def as_java(segment: bytes) -> tuple[int, int]:
        msb, lsb = int.from_bytes(segment[:8], "big"), int.from_bytes(segment[8:], "big")
        return (msb ^ 1 << 63, lsb ^ 1 << 63)  # moves the negative half below the positive one

    assert sorted(segments, key=ids.signed_key) == sorted(segments, key=as_java)


def test_ids_that_begin_with_8_to_f_come_first() -> None:
    rising = [bytes([first]) + bytes(15) for first in (0x80, 0xFF, 0x00, 0x7F)]
    assert sorted(sorted(rising), key=ids.signed_key) == rising
    assert ids.signed_key(b"\xff" * 16) == (-1, -1)


def test_the_two_text_forms_of_a_record_id() -> None:
    record = RecordId(DATA, 205)
    assert str(record) == f"{DATA_TEXT}:205"
    assert record.hex == f"{DATA_TEXT}.000000cd"
    assert RecordId.parse(str(record)) == RecordId.parse(record.hex) == record


@given(record_ids)
@example(RecordId(ids.NULL_ID, 0))
@example(RecordId(b"\xff" * 16, 2**32 - 1))
def test_record_ids_survive_both_text_forms(record: RecordId) -> None:
    assert RecordId.parse(str(record)) == record
    assert RecordId.parse(record.hex) == record


@pytest.mark.parametrize(
    "tail",
    ["", ":", ":05", ":-1", ":+1", ": 1", ":1 ", ":1.0", ".cd", ".000000CD", ".0000000cd", "/5",
     ":\N{ARABIC-INDIC DIGIT SEVEN}", ":1_0", ":5\n", ":" + "9" * 11, ":" + "9" * 5000],
    ids=lambda tail: repr(tail[:12]),
)  # fmt: skip
def test_other_tails_are_no_record_ids(tail: str) -> None:
    with pytest.raises(FormatError, match="is not a record id"):
        RecordId.parse(DATA_TEXT + tail)


def test_a_record_number_has_32_bits() -> None:
    assert RecordId.parse(f"{DATA_TEXT}:4294967295").number == 2**32 - 1
    with pytest.raises(FormatError, match="4294967296 does not fit 32 bits") as refused:
        RecordId.parse(f"{DATA_TEXT}:4294967296")
    assert refused.value.offset == len(DATA_TEXT) + 1


def test_a_generation_reads_as_written_in_reports() -> None:
    assert str(Generation(2, 1, True)) == "2/1 compacted"
    assert str(ids.NO_GENERATION) == "0/0"
