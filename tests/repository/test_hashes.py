"""Hashes and orders: golden vectors of the format, and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.repository import hashes

GOLDEN = [
    ("", 0, None, None),
    ("a", 0x00000061, 0x3C9CBB27, 7),
    ("root", 0x003580E2, 0xC28924EE, 24),
    ("checkpoints", 0x5F025BEB, 0xBC751619, 23),
    ("jcr:content", 0xE74D9058, 0x88CEF29C, 17),
    ("é😀", 0x001E780C, 0x07049558, 0),
]


@pytest.mark.parametrize(("name", "java", "mapped", "index"), GOLDEN)
def test_golden_hashes(name: str, java: int, mapped: int | None, index: int | None) -> None:
    assert hashes.java_hash(name) == java
    if mapped is not None:
        assert hashes.map_hash(name) == mapped
        assert hashes.map_bucket(mapped, 0) == index


def test_level_six_uses_the_sign_extended_top_bits() -> None:
    assert hashes.map_bucket(0x80000001, 6) == 0b11100
    assert hashes.map_bucket(0x60000000, 6) == 0b00011
    assert hashes.map_bucket(0x00000003, 5) == 0 and hashes.map_bucket(0b1111100, 5) == 0b11111


def test_level_zero_takes_the_top_five_bits_and_level_one_the_next() -> None:
    value = 0b10110_01101 << 22
    assert hashes.map_bucket(value, 0) == 0b10110
    assert hashes.map_bucket(value, 1) == 0b01101


def test_utf16_order_differs_from_code_point_order() -> None:
    astral, high = "\U00010000", "\uffff"
    assert astral > high
    assert hashes.utf16_key(astral) < hashes.utf16_key(high)


def test_property_order_is_by_signed_hash_first() -> None:
    assert hashes.java_hash("jcr:content") > hashes.java_hash("a")
    assert hashes.property_key("jcr:content") < hashes.property_key("a")


@given(st.text())
def test_java_hash_is_the_polynomial_over_utf16_units(name: str) -> None:
    raw = name.encode("utf-16-be", "surrogatepass")
    units = [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]
    expected = sum(unit * 31 ** (len(units) - 1 - i) for i, unit in enumerate(units)) % 2**32
    assert hashes.java_hash(name) == expected


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_buckets_are_five_bits(value: int, level: int) -> None:
    assert 0 <= hashes.map_bucket(value, level) < 32


@given(st.integers(-(2**31), 2**31 - 1))
def test_signed_undoes_the_mask(value: int) -> None:
    assert hashes.signed(value & hashes.MASK) == value
