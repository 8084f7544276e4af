"""Ids of external binaries: what they say, and which of them are believed.

Facts: blob stores, sections 2.3, 3.1 and 9.2. An id comes from segments, so from a peer:
nothing of it becomes a path but a digest of which every character was checked. Ids are
compared as they are written and never normalised; `BlobId.text` is that.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from tarfailover.errors import FormatError

LONGEST = 1024 * 1024
"""Characters; a longer id is taken for damage. Those of files have less than a hundred."""
MAX_DEPTH = 64
"""Levels of index blocks in an id of a FileBlobStore."""
MAX_LENGTH = 2**63 - 1
"""Bytes that a binary can have: the length is a signed number in Oak."""

_FILE = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})(?:#(0|[1-9][0-9]{0,18}))?", re.ASCII)
_INLINE = re.compile(r"0x((?:[0-9a-f]{2})*)(?:#(0|[1-9][0-9]{0,18}))?", re.ASCII)
_CLOUD = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9]+(#[0-9]+)?", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_VARINT_BYTES = 10
_DIGEST = 32
_DATA, _HASH = 0, 1


class Block(NamedTuple):
    """Bytes that are a file of the blob store, named after their digest."""

    digest: str
    """Lower-case hex: 40 digits of SHA-1 or 64 of SHA-256, over all bytes of the file."""
    size: int | None
    """Bytes of the file; None if the id does not tell."""
    level: int = 0
    """0: the file is content. Else it is an index block: entries in place of content."""
    total: int | None = None
    """Bytes of content that the entries of an index block stand for."""

    @property
    def length(self) -> int | None:
        """Bytes of content that this stands for; None if the id does not tell."""
        return self.total if self.level else self.size


Part: TypeAlias = bytes | Block
"""A part of a binary: bytes that are written in the id itself, or a file."""


class BlobId(NamedTuple):
    """The id of a binary, and what it says."""

    text: str
    """As the segments have it."""
    parts: tuple[Part, ...]
    """What the binary consists of, in order."""
    length: int | None
    """Bytes of the binary; None if the id does not tell."""


def parse_data_store(raw: str | bytes) -> BlobId:
    """An id of a Jackrabbit data store: ``<digest>#<length>``, or ``0x<hex>#<length>``.

    Raises FormatError for everything else: of unknown form, too long, or untrue in itself.
    """
    text = _text(raw)
    match = _FILE.fullmatch(text)
    if match:
        length = _length(text, match[2])
        return BlobId(text, (Block(match[1], length),), length)
    match = _INLINE.fullmatch(text)
    if match is None:
        raise FormatError(_refusal(text), 0)
    content = bytes.fromhex(match[1])
    if _length(text, match[2]) not in (None, len(content)):
        raise FormatError(f"the id {shown(text)} holds {len(content)} bytes, and says another", 0)
    return BlobId(text, (content,) if content else (), len(content))


def parse_block_store(raw: str | bytes) -> BlobId:
    """An id of Oak's FileBlobStore: entries in hex; raises FormatError as `parse_data_store`."""
    text = _text(raw)
    if _HEX.fullmatch(text) is None:
        raise FormatError(f"{shown(text)} is no id of a FileBlobStore: those are lower-case hex", 0)
    parts = parse_entries(bytes.fromhex(text))
    return BlobId(text, parts, content_length(parts))


def parse_entries(data: bytes) -> tuple[Part, ...]:
    """The entries of an id of a FileBlobStore, or of an index block; raises FormatError."""
    cursor = _Cursor(data)
    parts: list[Part] = []
    while cursor.at < len(data):
        kind = cursor.take(1)[0]
        if kind == _DATA:
            parts.append(cursor.take(cursor.varint()))
        elif kind == _HASH:
            parts.append(cursor.block())
        else:
            raise FormatError(f"an entry of kind {kind}, where 0 or 1 is known", cursor.at - 1)
    return tuple(parts)


def encode_entry(part: Part) -> bytes:
    """One entry of an id of a FileBlobStore; a block must tell its size."""
    if isinstance(part, bytes):
        return bytes([_DATA]) + _varint(len(part)) + part
    levels = _varint(part.level) + (_varint(part.total or 0) if part.level else b"")
    digest = bytes.fromhex(part.digest)
    return bytes([_HASH]) + levels + _varint(part.size or 0) + _varint(len(digest)) + digest


def content_length(parts: tuple[Part, ...]) -> int:
    """Bytes of content in the entries of a FileBlobStore; raises FormatError beyond 2^63."""
    total = sum(len(part) if isinstance(part, bytes) else part.length or 0 for part in parts)
    if total > MAX_LENGTH:
        raise FormatError(f"a binary of {total} bytes: no store holds that many", 0)
    return total


def shown(text: str) -> str:
    """The beginning of an id for a message: no control characters, never long."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def _text(raw: str | bytes) -> str:
    if len(raw) > LONGEST:
        raise FormatError(f"a blob id of {len(raw)} bytes; the limit is {LONGEST}", 0)
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise FormatError(f"{raw[:80]!r} is no blob id: not ASCII", error.start) from error


def _length(text: str, digits: str | None) -> int | None:
    length = None if digits is None else int(digits)
    if length is not None and length > MAX_LENGTH:
        raise FormatError(f"the id {shown(text)} tells a length beyond 2^63", text.rindex("#"))
    return length


def _refusal(text: str) -> str:
    if _CLOUD.fullmatch(text):
        return f"{shown(text)} is an id of a cloud store (S3, Azure) whose content has no digest"
    return f"{shown(text)} is no id of a data store: <40 or 64 hex digits>#<length>, or 0x<hex>"


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


class _Cursor:
    """Takes values from the front of entries, each checked against what is left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self.at:
            raise FormatError(f"{size} bytes run past the end of the blob id's entries", self.at)
        self.at += size
        return self._data[self.at - size : self.at]

    def varint(self) -> int:
        start, value = self.at, 0
        for shift in range(0, 7 * _VARINT_BYTES, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > MAX_LENGTH:
                    raise FormatError(f"the number {value} is beyond 2^63", start)
                return value
        raise FormatError(f"a number of more than {_VARINT_BYTES} bytes", start)

    def block(self) -> Block:
        start = self.at
        level = self.varint()
        if level > MAX_DEPTH:
            raise FormatError(f"an index block of level {level}; the limit is {MAX_DEPTH}", start)
        total = self.varint() if level else None
        size = self.varint()
        if self.varint() != _DIGEST:
            raise FormatError(f"a digest that has not {_DIGEST} bytes", start)
        return Block(self.take(_DIGEST).hex(), size, level, total)
