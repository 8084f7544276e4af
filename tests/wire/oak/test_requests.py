"""Request lines of Oak's dialect: written as Oak reads them, read as Oak reads them."""

from __future__ import annotations

import pytest
from format_samples import ids
from hypothesis import given
from hypothesis import strategies as st
from oak_samples import SEGMENT, names

from tarfailover.errors import ProtocolError
from tarfailover.wire.oak.limits import MAX_LINE
from tarfailover.wire.oak.requests import (
    Asked,
    GetBlob,
    GetHead,
    GetReferences,
    GetSegment,
    Ignored,
    LineParser,
    Request,
    client_name,
    line,
)

BLOB = "417d44d08a48d30143bbe1bcd6723c5d5eb3a37c#40000"
LINES: dict[bytes, Request] = {
    bytes.fromhex("5374616e6462792d434d4440 6c6162 3a 68 0d0a"): GetHead(),
    b"Standby-CMD@lab:s.11111111-2222-4333-a444-555555555555\r\n": GetSegment(SEGMENT),
    b"Standby-CMD@lab:r.11111111-2222-4333-a444-555555555555\r\n": GetReferences(SEGMENT),
    b"Standby-CMD@lab:b.417d44d08a48d30143bbe1bcd6723c5d5eb3a37c#40000\r\n": GetBlob(BLOB),
}
READ: dict[bytes, Asked] = {
    b"Standby-CMD@lab:H\n": Asked("lab", GetHead()),
    b"Standby-CMD@:h\n": Asked("", GetHead()),
    b"Standby-CMD@lab:b.a:b\n": Asked("lab", GetBlob("a:b")),
    b"Standby-CMD@lab:b. a \n": Asked("lab", GetBlob(" a ")),
    b"Standby-CMD@lab:s.11111111-2222-4333-A444-555555555555\n": Asked("lab", GetSegment(SEGMENT)),
    b"Standby-CMD@lab:s.1-2-3-4-5\n": Asked(
        "lab", GetSegment(bytes.fromhex("00000001000200030004000000000005"))
    ),
    b"Standby-CMD@lab:s.fff11111111-2222-4333-a444-5\n": Asked(
        "lab", GetSegment(SEGMENT[:10] + bytes(5) + b"\5")
    ),
    b"Standby-CMD@\xff:h\r\n": Asked("\ufffd", GetHead()),
}
IGNORED = {
    b"\n": "does not begin with Standby-CMD@",
    b"FailOver-CMD@lab:h\n": "does not begin",
    b"h\r\n": "does not begin",
    b"standby-CMD@lab:h\n": "does not begin",
    b"Standby-CMD@\n": "no colon",
    b"Standby-CMD@lab\n": "no colon",
    b"Standby-CMD@lab:\n": "asks for nothing",
    b"Standby-CMD@lab:h \n": "asks for nothing",
    b"Standby-CMD@lab:hh\n": "asks for nothing",
    b"Standby-CMD@lab:S.11111111-2222-4333-a444-555555555555\n": "asks for nothing",
    b"Standby-CMD@lab:B.x\n": "asks for nothing",
    b"Standby-CMD@lab:s.11111111-2222-4333-a444-555555555555 \n": "is not a UUID",
    b"Standby-CMD@lab:s.\n": "is not a UUID",
    b"Standby-CMD@lab:r.1-2-3-4-\n": "is not a UUID",
    b"Standby-CMD@lab:s.1-2-3-4-5-6\n": "is not a UUID",
    b"Standby-CMD@lab:s.1-2-3-4-55555555555555555555555555555\n": "is not a UUID",
    b"Standby-CMD@lab:x\x1b[2J\n": r"'x\\x1b\[2J' asks",
}


@pytest.mark.parametrize("written", LINES)
def test_a_request_is_written_as_oak_reads_it(written: bytes) -> None:
    assert line("lab", LINES[written]) == written


@pytest.mark.parametrize("written", LINES)
def test_a_request_of_oak_is_read(written: bytes) -> None:
    assert LineParser().feed(written) == [Asked("lab", LINES[written])]
    assert LineParser().feed(written.replace(b"\r", b"")) == [Asked("lab", LINES[written])]


@pytest.mark.parametrize("written", READ)
def test_what_oak_takes_beside_that_is_taken(written: bytes) -> None:
    assert LineParser().feed(written) == [READ[written]]


@pytest.mark.parametrize("written", IGNORED)
def test_what_oak_passes_over_is_passed_over_and_named(written: bytes) -> None:
    passed, then = LineParser().feed(written + b"Standby-CMD@lab:h\n")
    assert isinstance(passed, Ignored)
    assert then == Asked("lab", GetHead())
    with pytest.raises(AssertionError, match=IGNORED[written]):
        raise AssertionError(passed.why)


def test_the_segment_of_a_references_request_is_kept_as_it_was_written() -> None:
    (asked,) = LineParser().feed(b"Standby-CMD@lab:r.1-2-3-A-5\r\n")
    assert isinstance(asked, Asked)
    assert asked.request.body == "r.1-2-3-A-5"


def test_whatever_the_cuts_the_requests_are_the_same() -> None:
    stream = b"".join([*LINES, *READ, *IGNORED])
    expected = LineParser().feed(stream)
    parser = LineParser()
    assert [each for at in stream for each in parser.feed(bytes([at]))] == expected
    for cut in range(len(stream)):
        parser = LineParser()
        assert parser.feed(stream[:cut]) + parser.feed(stream[cut:]) == expected


@given(names, ids, names)
def test_what_was_written_is_read(client: str, segment: bytes, blob: str) -> None:
    requests = [GetHead(), GetSegment(segment), GetReferences(segment), GetBlob(blob)]
    stream = b"".join(line(client, each) for each in requests)
    assert LineParser().feed(stream) == [Asked(client_name(client), each) for each in requests]


@given(st.binary())
def test_any_bytes_are_lines(data: bytes) -> None:
    assert len(LineParser().feed(data)) == data.count(b"\n")


def test_a_name_loses_what_would_end_it() -> None:
    assert client_name('cap:1"\r\n\x85é') == "cap#1####é"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_may_be_8192_bytes_long(end: bytes) -> None:
    longest = b"Standby-CMD@x:b.".ljust(MAX_LINE, b"y")
    parser = LineParser()
    assert parser.feed(longest) == []
    assert len(parser.feed(end)) == 1
    assert len(LineParser().feed(longest + end)) == 1
    with pytest.raises(ProtocolError, match="more than 8192 bytes"):
        LineParser().feed(longest + b"y" + end)


def test_a_line_that_does_not_end_is_not_kept_for_ever() -> None:
    parser = LineParser()
    parser.feed(b"\x16\x03\x01".ljust(MAX_LINE, b"y"))
    with pytest.raises(ProtocolError, match="is this an Oak standby"):
        parser.feed(b"y")


@pytest.mark.parametrize("blob", ["a\nb", "a\rb", "a" * MAX_LINE])
def test_a_line_that_oak_would_not_read_is_not_written(blob: str) -> None:
    with pytest.raises(ProtocolError, match="no line can ask for"):
        line("lab", GetBlob(blob))
