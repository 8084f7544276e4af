"""Property values as Python has them, from the text that a store holds."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarfailover.errors import ContentError
from tarfailover.repository import values
from tarfailover.repository.typed import python_value
from tarfailover.repository.values import Property, PropertyType

UTC = dt.timezone.utc
HALF = dt.timezone(dt.timedelta(hours=-3, minutes=-30))

GOOD = [
    (PropertyType.LONG, "-9223372036854775808", -(2**63)),
    (PropertyType.LONG, "+7", 7),
    (PropertyType.DOUBLE, "1.0E10", 1e10),
    (PropertyType.DOUBLE, "4.9E-324", 5e-324),
    (PropertyType.DOUBLE, "-Infinity", -math.inf),
    (PropertyType.DECIMAL, "-1.50", Decimal("-1.50")),
    (PropertyType.DECIMAL, "1E+3", Decimal("1E+3")),
    (PropertyType.BOOLEAN, "TRUE", True),
    (PropertyType.BOOLEAN, "yes", False),
    (
        PropertyType.DATE,
        "2026-11-22T19:12:16.264Z",
        dt.datetime(2026, 11, 22, 19, 12, 16, 264000, UTC),
    ),
    (PropertyType.DATE, "0001-01-01T00:00:00.000-03:30", dt.datetime(1, 1, 1, tzinfo=HALF)),
    (PropertyType.STRING, "as it is", "as it is"),
    (PropertyType.NAME, "as it is", values.Name("as it is")),
    (PropertyType.PATH, "as it is", values.Path("as it is")),
    (PropertyType.URI, "as it is", values.Uri("as it is")),
    (PropertyType.REFERENCE, "as it is", values.Reference("as it is")),
    (PropertyType.WEAKREFERENCE, "as it is", values.WeakReference("as it is")),
]

WRONG = [
    (PropertyType.LONG, "9223372036854775808"),
    (PropertyType.LONG, "1_000"),
    (PropertyType.LONG, "٣"),
    (PropertyType.LONG, "9" * 5000),
    (PropertyType.LONG, ""),
    (PropertyType.DOUBLE, "nan"),
    (PropertyType.DOUBLE, " 1.0"),
    (PropertyType.DECIMAL, "NaN"),
    (PropertyType.DECIMAL, "1E"),
    (PropertyType.DECIMAL, "1E+9999999999999999999"),
    (PropertyType.DATE, "2026-11-22"),
    (PropertyType.DATE, "2026-02-30T00:00:00.000Z"),
    (PropertyType.DATE, "+12026-11-22T19:12:16.264Z"),
    (PropertyType.DATE, "2026-11-22T19:12:16.264+99:99"),
]


@pytest.mark.parametrize(("kind", "text", "value"), GOOD)
def test_texts_and_values(kind: PropertyType, text: str, value: object) -> None:
    found = python_value(kind, text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number() -> None:
    found = python_value(PropertyType.DOUBLE, "NaN")
    assert isinstance(found, float) and math.isnan(found)


@pytest.mark.parametrize(("kind", "text"), WRONG)
def test_what_is_no_value_is_told_with_its_type(kind: PropertyType, text: str) -> None:
    with pytest.raises(ContentError, match=f"is no {kind.name} that Python can hold"):
        python_value(kind, text)


@given(
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(timezones=st.timezones()).map(lambda each: each.replace(microsecond=0))
)
def test_what_is_written_is_read(value: object) -> None:
    written = Property.of(value)
    if isinstance(value, dt.datetime) and value.utcoffset().seconds % 60:
        return
    [text] = written.values
    found = python_value(written.type, text)
    if isinstance(value, dt.datetime) and isinstance(found, dt.datetime):
        # Python calls no two times equal of which one stands in an hour that comes twice.
        assert found.timestamp() == value.timestamp()
    else:
        assert found == value


@settings(max_examples=50)
@given(st.sampled_from(list(PropertyType)), st.text())
def test_any_text_gives_a_value_or_our_error(kind: PropertyType, text: str) -> None:
    with contextlib.suppress(ContentError):
        python_value(kind, text)
