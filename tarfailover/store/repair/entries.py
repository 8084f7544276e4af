"""One entry of a tar: what is wrong with it, and what its bytes should be.

Facts: storage format, sections 2.1 and 2.2.
"""

from __future__ import annotations

from isal.isal_zlib import crc32

from tarfailover.errors import FormatError
from tarfailover.format import tar
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK, TarName
from tarfailover.ids import is_bulk, text
from tarfailover.store.check import entries
from tarfailover.store.intake import Arrival, checked
from tarfailover.store.opentar import Incoming
from tarfailover.store.repair.damage import Damage, distance

_MTIME = slice(136, 147)
_CRC = slice(37, 45)
_OCTAL = b"01234567"


def extent(entry: IndexEntry) -> tuple[int, int]:
    """Where the entry begins with its header, and how many bytes it has with its padding."""
    return entry.position - BLOCK, BLOCK + tar.padded(entry.length)


def look_at(name: TarName, entry: IndexEntry, block: memoryview) -> tuple[Damage | None, int]:
    """What is wrong with `entry`, whose bytes in tar `name` are `block`; and the data's CRC32."""
    crc, _, wrongs = entries.entry(entry.segment, entry.length, block)
    grave = [wrong for wrong in wrongs if wrong.grave]
    if not grave:
        return None, crc
    what = "; ".join(wrong.what for wrong in grave)
    at = entry.position - BLOCK + grave[0].offset
    return Damage(name, at, what, entry, not _is_named(block, crc)), crc


def _is_named(block: memoryview, crc: int) -> bool:
    """Whether the name in the header, damaged or not, has the checksum of the data."""
    return bytes(block[_CRC]) == b"%08x" % crc


def named_crc(entry: IndexEntry, block: memoryview) -> int | None:
    """The checksum that the header of `entry` states, if the header is whole and states one."""
    name = whole_name(entry, block)
    stated = tar.parse_segment_name(name) if name is not None else None
    return stated.crc if stated else None


def whole_name(entry: IndexEntry, block: memoryview) -> bytes | None:
    """The name in the header of `entry`, None unless the header is whole."""
    try:
        header = tar.parse_header(block)
    except FormatError:
        return None
    name = tar.parse_segment_name(header.name) if header else None
    if header is None or name is None or name.segment != entry.segment:
        return None
    return header.name if entries.header_is(block[:BLOCK], header.name, entry.length) else None


def verified(entry: IndexEntry, block: memoryview, arrival: Arrival, *, indexed: bool) -> Incoming:
    """What came for `entry`, if it is what belongs there; raises FormatError.

    `block` is what is there now: where its header is whole, the data must have the checksum that
    this states; always the length that `entry` has, and if it is `indexed`, the generation.
    """
    found = checked(arrival)
    name = f"segment {text(entry.segment)}"
    if found.segment != entry.segment:
        raise FormatError(f"{name} was asked for, and {text(found.segment)} came", 0)
    if found.length != entry.length:
        raise FormatError(f"{name} has {entry.length} bytes here and {found.length} there", 0)
    wanted = named_crc(entry, block)
    if wanted is not None and found.crc != wanted:
        raise FormatError(
            f"{name} has checksum {found.crc:08x} there, and {wanted:08x} belongs here: the other "
            "side has other bytes under this id",
            0,
        )
    stated = entry.generation.generation
    if indexed and not is_bulk(entry.segment) and found.generation.generation != stated:
        raise FormatError(
            f"{name} is of generation {found.generation.generation} there, the index here says "
            f"{stated}",
            0,
        )
    return found


def right_block(entry: IndexEntry, block: memoryview, data: bytes, mtime: int) -> bytes:
    """Header, `data` and padding as they should be, in place of `block`.

    `mtime` is that of a neighbour, seconds since 1970.
    """
    header = bytes(block[:BLOCK])
    if whole_name(entry, block) is None:
        name = tar.segment_entry_name(entry.segment, crc32(data))
        header = right_header(header, name, len(data), mtime)
    return header + data + bytes(tar.padded(len(data)) - len(data))


def right_header(found: bytes, name: bytes, size: int, mtime: int) -> bytes:
    """The header of `size` bytes under `name` that is nearest to what was found.

    The time is the one thing in it that nothing else tells: what can be read of it counts, with
    one digit changed if that fits better, else `mtime`.
    """
    times = {mtime, *_readings(found[_MTIME])}
    headers = ((tar.encode_header(name, size, each), abs(each - mtime)) for each in times)
    found = found.ljust(BLOCK, b"\0")
    return min(headers, key=lambda made: (distance(made[0], found), made[1]))[0]


def mtime_of(block: bytes | memoryview) -> int | None:
    """The time in a header, in seconds since 1970; None if that is no number."""
    digits = bytes(block[_MTIME])
    return int(digits, 8) if len(digits) == 11 and not digits.strip(_OCTAL) else None


def _readings(digits: bytes) -> list[int]:
    """What the digits say, and what they would with one of them changed."""
    found = []
    for place in range(len(digits)):
        rest = digits[:place] + digits[place + 1 :]
        if not rest.strip(_OCTAL):
            found += [int(digits[:place] + bytes([d]) + digits[place + 1 :], 8) for d in _OCTAL]
    return found
