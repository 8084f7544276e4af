"""Lines of journal.log: which of them name a head, as Oak reads them."""

from __future__ import annotations

import pytest
from format_samples import ids
from hypothesis import example, given
from hypothesis import strategies as st

from tarfailover.format import journal
from tarfailover.format.journal import JournalLine
from tarfailover.ids import RecordId

UUID = b"a4b3ab54-6cc4-4879-a2b4-018ec1247170"
SEGMENT = bytes.fromhex("a4b3ab546cc44879a2b4018ec1247170")
HEAD = RecordId(SEGMENT, 205)
LINE = UUID + b":205 root 1795374736264"

heads = st.builds(RecordId, ids, st.integers(0, 2**32 - 1))
times = st.integers(0, 10**18 - 1)


@pytest.mark.parametrize(
    ("line", "head", "time_ms"),
    [
        (LINE, HEAD, 1795374736264),
        (UUID + b".000000cd root 1795374736264", HEAD, 1795374736264),
        (UUID + b":0 root 0", RecordId(SEGMENT, 0), 0),
        (LINE + b"\r", HEAD, 1795374736264),
        (UUID + b":205 ", HEAD, None),
        (UUID + b":205 ro", HEAD, None),
        (UUID + b":205 root", HEAD, None),
        (UUID + b":205 root ", HEAD, None),
        (UUID + b":205 root 17953", HEAD, 17953),
        (UUID + b":205 root x", HEAD, None),
        (UUID + b":205 root -5", HEAD, None),
        (UUID + b":205 root 1 more words", HEAD, 1),
        (UUID + b":205  1795374736264", HEAD, 1795374736264),
        (UUID + b":205 anything 7", HEAD, 7),
        (UUID + b":205 \xff\0 7", HEAD, 7),
        (UUID + b":205 root \xb2", HEAD, None),
        (UUID + b":205 root " + b"9" * 19, HEAD, None),
        (UUID + b":205 root " + b"9" * 5000, HEAD, None),
    ],
)
def test_lines_that_name_a_head(line: bytes, head: RecordId, time_ms: int | None) -> None:
    assert journal.parse_line(line, 9) == JournalLine(head, time_ms, 9)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\r",
        b" ",
        b"\0" * 64,
        b"\0" * 20 + b" " + b"\0" * 20,
        UUID,
        UUID + b":20",
        UUID + b":205",
        UUID + b":205\r",
        UUID + b":205\troot\t1",
        b" " + LINE,
        b"\0" + LINE,
        UUID[1:] + b":205 root 1",
        UUID.upper() + b":205 root 1",
        UUID + b" root 1",
        UUID + b": root 1",
        UUID + b":-5 root 1",
        UUID + b":05 root 1",
        UUID + b":4294967296 root 1",
        UUID + b":" + b"9" * 5000 + b" root 1",
        UUID + b".cd root 1",
        UUID + b".000000CD root 1",
        UUID + b":2" + LINE,  # a line glued to a torn one: the newer head is lost, as for Oak
        b"\xef\xbb\xbf" + LINE,
    ],
)
def test_lines_that_name_none(line: bytes) -> None:
    assert journal.parse_line(line) is None


def test_a_line_glued_behind_a_complete_id_keeps_the_older_head() -> None:
    assert journal.parse_line(UUID + b":7 ro" + LINE) == JournalLine(RecordId(SEGMENT, 7), None)


def test_the_line_of_the_worked_example_both_ways() -> None:
    written = b"c7c4568a-55a2-4052-ab61-df77298103ae:5 root 1795374757401\n"
    head = RecordId(bytes.fromhex("c7c4568a55a24052ab61df77298103ae"), 5)
    assert list(journal.parse(written)) == [JournalLine(head, 1795374757401)]
    assert JournalLine(head, 1795374757401).encode() == written


def test_a_line_without_time_is_written_with_zero() -> None:
    assert JournalLine(HEAD, None).encode() == UUID + b":205 root 0\n"


@given(heads, times)
def test_a_line_survives_both_ways(head: RecordId, time_ms: int) -> None:
    written = JournalLine(head, time_ms).encode()
    assert written.endswith(b"\n")
    assert journal.parse_line(written[:-1], 3) == JournalLine(head, time_ms, 3)


@given(st.lists(st.tuples(heads, times), max_size=5), st.integers(0, 2**40))
def test_a_journal_is_read_oldest_first_with_offsets(
    history: list[tuple[RecordId, int]], base: int
) -> None:
    lines = [JournalLine(*one).encode() for one in history]
    offsets = [base + sum(map(len, lines[:place])) for place in range(len(lines))]
    expected = [JournalLine(*one, at) for one, at in zip(history, offsets, strict=True)]
    assert list(journal.parse(b"".join(lines), base)) == expected


def test_odd_lines_between_do_no_harm() -> None:
    newer = UUID + b":300 root 1795374736999"
    data = b"\n".join([LINE, b"", b"\0" * 512, b"garbage of words", newer, UUID + b":3"])
    assert list(journal.parse(data)) == [
        JournalLine(HEAD, 1795374736264, 0),
        JournalLine(RecordId(SEGMENT, 300), 1795374736999, data.index(newer)),
    ]


def test_the_empty_line_that_compaction_by_tool_leaves() -> None:
    assert [line.head for line in journal.parse(LINE + b"\n\n")] == [HEAD]


def test_an_empty_journal_names_no_head() -> None:
    assert list(journal.parse(b"")) == []


def test_lines_of_crlf_are_read() -> None:
    data = LINE + b"\r\n" + UUID + b":7 root 1\r\n"
    assert [line.head.number for line in journal.parse(data)] == [205, 7]


def test_every_cut_of_a_journal_names_the_last_head_whose_id_is_complete() -> None:
    newer = UUID + b":300 root 1795374736999\n"
    data = LINE + b"\n" + newer
    blanks = [data.index(b" ") + 1, len(LINE) + 1 + newer.index(b" ") + 1]
    for length in range(len(data) + 1):
        numbers = [line.head.number for line in journal.parse(data[:length])]
        assert numbers == [205, 300][: sum(length >= blank for blank in blanks)], length


@given(st.binary(max_size=200))
@example(b"\n" * 5)
@example(LINE + b"\n" + LINE[:50])
def test_any_bytes_are_read_as_lines(data: bytes) -> None:
    for line in journal.parse(data, 1000):
        at = line.offset - 1000
        assert at == 0 or data[at - 1 : at] == b"\n"
        written = (str(line.head).encode(), line.head.hex.encode())
        assert data[at:].startswith(written)


@given(st.text("0123456789abcdef-:. \r\n", max_size=60), st.integers(0, 60))
def test_bytes_like_lines_are_read_as_lines(written: str, keep: int) -> None:
    data = LINE[:keep] + written.encode()
    whole = list(journal.parse(data))
    by_line = [journal.parse_line(line) for line in data.split(b"\n")]
    assert [line.head for line in whole] == [line.head for line in by_line if line]
