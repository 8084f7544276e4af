"""Headers of many segments at once are those of one after the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.errors import FormatError
from tarfailover.format import headers, tar
from tarfailover.format.segment import MAX_SEGMENT

ROWS = st.lists(
    st.tuples(
        st.binary(min_size=16, max_size=16), st.integers(0, 2**32 - 1), st.integers(0, 2**33 - 1)
    ),
    max_size=3 * headers.FEW,
)


@given(ROWS, st.integers(0, 2**33 - 1))
def test_they_are_those_of_one_after_the_other(
    rows: list[tuple[bytes, int, int]], mtime: int
) -> None:
    ids, crcs, sizes = ([row[place] for row in rows] for place in range(3))
    found = headers.segment_headers(ids, crcs, sizes, mtime)
    assert [bytes(each) for each in found] == [
        tar.encode_header(tar.segment_entry_name(segment, crc), size, mtime)
        for segment, crc, size in rows
    ]


@pytest.mark.parametrize("count", [1, headers.FEW, 5 * headers.FEW])
@pytest.mark.parametrize(
    ("sizes", "mtime"), [((-1,), 0), ((8**11,), 0), ((MAX_SEGMENT,), -1), ((1,), 8**11)]
)
def test_what_does_not_fit_is_refused(count: int, sizes: tuple[int, ...], mtime: int) -> None:
    made = [*[5] * (count - 1), *sizes]
    with pytest.raises(FormatError, match="does not fit a tar header"):
        headers.segment_headers([bytes(16)] * count, [0] * count, made, mtime)
