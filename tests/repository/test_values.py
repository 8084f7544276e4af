"""The text forms of property values, as Java prints them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.errors import ContentError
from tarfailover.ids import RecordId
from tarfailover.repository.values import (
    ExternalBlob,
    Property,
    PropertyType,
    StoredBlob,
    double_text,
)

UTC = dt.timezone.utc

DOUBLES = [
    (0.0, "0.0"),
    (-0.0, "-0.0"),
    (1.0, "1.0"),
    (-12.5, "-12.5"),
    (0.001, "0.001"),
    (0.00099, "9.9E-4"),
    (9999999.0, "9999999.0"),
    (1e7, "1.0E7"),
    (123456789.125, "1.23456789125E8"),
    (1.7976931348623157e308, "1.7976931348623157E308"),
    (2.2250738585072014e-308, "2.2250738585072014E-308"),
    (1e23, "1.0E23"),
    (5e-324, "4.9E-324"),
    (1e-323, "9.9E-324"),
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
]


@pytest.mark.parametrize(("value", "text"), DOUBLES)
def test_doubles_as_java_prints_them(value: float, text: str) -> None:
    assert double_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_reads_back_as_itself(value: float) -> None:
    assert float(double_text(value)) == value
    assert "." in double_text(value)


OTHERS = [
    ("text", PropertyType.STRING, "text"),
    (True, PropertyType.BOOLEAN, "true"),
    (False, PropertyType.BOOLEAN, "false"),
    (-(2**63), PropertyType.LONG, "-9223372036854775808"),
    (1.5, PropertyType.DOUBLE, "1.5"),
    (Decimal("1E+3"), PropertyType.DECIMAL, "1E+3"),
    (Decimal("-0.0"), PropertyType.DECIMAL, "0.0"),
    (b"\0", PropertyType.BINARY, b"\0"),
    (
        dt.datetime(2024, 10, 24, 13, 55, 19, 7000, dt.timezone(dt.timedelta(hours=1))),
        PropertyType.DATE,
        "2024-10-24T13:55:19.007+01:00",
    ),
    (
        dt.datetime(1999, 1, 2, tzinfo=UTC),
        PropertyType.DATE,
        "1999-01-02T00:00:00.000Z",
    ),
]


@pytest.mark.parametrize(("value", "kind", "stored"), OTHERS)
def test_python_values_find_their_type_and_text(
    value: object, kind: object, stored: object
) -> None:
    assert Property.of(value) == Property(kind, (stored,))
    assert Property.of([value, value]) == Property(kind, (stored, stored), True)


def test_the_type_of_text_can_be_chosen_and_an_empty_array_is_of_strings() -> None:
    assert Property.of("a:b", PropertyType.PATH) == Property(PropertyType.PATH, ("a:b",))
    assert Property.of([]) == Property(PropertyType.STRING, (), True)
    assert Property.of([], PropertyType.DATE).tag == -5
    assert Property.name("nt:base").tag == 7
    assert Property.names(["a", "b"]).tag == -7


def test_binaries_may_be_stored_or_external() -> None:
    record = RecordId(bytes(16), 1)
    for blob in (StoredBlob(record, 5), ExternalBlob(record, "id#5")):
        assert Property.of(blob) == Property(PropertyType.BINARY, (blob,))


WRONG = [
    (2**63, "does not fit a LONG"),
    (-(2**63) - 1, "does not fit a LONG"),
    (Decimal("NaN"), "no finite DECIMAL"),
    (dt.datetime(2024, 1, 1), "no time zone"),  # noqa: DTZ001
    (object(), "nothing that a property can hold"),
    (["a", 1], "not STRING"),
    ([1, object()], "nothing that a property can hold"),
    ([b"a", "text"], "no value of type BINARY"),
]


@pytest.mark.parametrize(("value", "said"), WRONG)
def test_values_that_cannot_be_stored_are_refused(value: object, said: str) -> None:
    with pytest.raises(ContentError, match=said):
        Property.of(value)


def test_a_single_property_has_one_value() -> None:
    with pytest.raises(ContentError, match="has one value, not 2"):
        Property(PropertyType.LONG, ("1", "2"))
    with pytest.raises(ContentError, match="'x' is no value of type BINARY"):
        Property(PropertyType.BINARY, ("x",))
