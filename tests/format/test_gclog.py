"""Lines of gc.log: those of today's Oak, and the shorter ones of Oak 1.6."""

from __future__ import annotations

import pytest
from format_samples import ids
from hypothesis import example, given
from hypothesis import strategies as st

from tarfailover.format import gclog
from tarfailover.format.gclog import GcLine
from tarfailover.ids import NULL_ID, RecordId

UUID = b"269eca68-474e-4a23-a663-3db8c9f09804"
ROOT = RecordId(bytes.fromhex("269eca68474e4a23a6633db8c9f09804"), 205)
LINE = b"7794688,0,1795374878095,7,4,43," + UUID + b":205"
READ = GcLine(7794688, 0, 1795374878095, 7, 4, 43, ROOT)
NO_ROOT = RecordId(NULL_ID, 0)

longs = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("line", "read"),
    [
        (LINE, READ),
        (LINE + b"\r", READ),
        (LINE + b" ", READ),
        (b"7794688,-5,1795374878095,7,4,43," + UUID + b":205", READ._replace(reclaimed_bytes=-5)),
        (b"7794688,0,1795374878095,7,4,43," + UUID + b".000000cd", READ),
        (
            b"7794688,0,1795374878095,7,4,43,00000000-0000-0000-0000-000000000000:0",
            READ._replace(root=NO_ROOT),
        ),
        # Oak 1.6: no full generation, with and without the root.
        (b"7794688,0,1795374878095,7,43," + UUID + b":205", READ._replace(full_generation=7)),
        (b"7794688,0,1795374878095,7,43", READ._replace(full_generation=7, root=NO_ROOT)),
        # More fields than seven: not today's line either.
        (
            b"7794688,0,1795374878095,7,43," + UUID + b":205,x,y",
            READ._replace(full_generation=7),
        ),
    ],
)
def test_lines_that_are_read(line: bytes, read: GcLine) -> None:
    assert gclog.parse_line(line) == read


def test_a_line_is_written_as_oak_writes_it() -> None:
    assert READ.encode() == LINE + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b",,,,,,",
        b"\0" * 60,
        b"7794688",
        b"7794688,0,1795374878095",
        b"7794688,0,1795374878095,7",
        b"7794688,0,1795374878095,7,4,43",
        b"7794688,0,1795374878095,7,4,43,",
        b"7794688,0,1795374878095,7,4,43," + UUID[:20],
        b"7794688,0,1795374878095,7,4,43," + UUID,
        b"x,0,1795374878095,7,4,43," + UUID + b":205",
        b"7794688,0,1795374878095,7,4,4_3," + UUID + b":205",
        b"7794688,0,1795374878095,7,4,\xb2," + UUID + b":205",
        b"7794688, 0,1795374878095,7,4,43," + UUID + b":205",
        b"7794688,0,1795374878095,7,4," + b"9" * 5000 + b"," + UUID + b":205",
        b"7794688,0,1795374878095,7,4,43," + UUID.upper() + b":205",
    ],
)
def test_lines_that_are_passed_over(line: bytes) -> None:
    assert gclog.parse_line(line) is None


@given(st.tuples(longs, longs, longs, longs, longs, longs), st.builds(RecordId, ids, st.just(7)))
@example((0, 0, 0, 0, 0, 0), NO_ROOT)
def test_seven_fields_stand_in_their_order(numbers: tuple[int, ...], root: RecordId) -> None:
    line = ",".join([*map(str, numbers), str(root)]).encode()
    assert gclog.parse_line(line) == (*numbers, root)


def test_a_log_is_read_oldest_first_past_what_cannot_be_read() -> None:
    older = b"1,2,3,4,5\n"
    read = list(gclog.parse(older + b"\n\0\0\n" + LINE + b"\n" + LINE[:40]))
    assert read == [GcLine(1, 2, 3, 4, 4, 5, NO_ROOT), READ]
    assert list(gclog.parse(b"")) == []


@given(st.binary(max_size=120))
def test_any_bytes_are_read_as_lines(data: bytes) -> None:
    assert len(list(gclog.parse(data))) <= data.count(b"\n") + 1


@given(st.text("0123456789-,:abcdef\n", max_size=120))
def test_bytes_like_lines_are_read_as_lines(written: str) -> None:
    for line in gclog.parse(written.encode()):
        assert str(line.repository_bytes).lstrip("-") in written
