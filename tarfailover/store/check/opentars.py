"""The check of a tar that has no valid index: it is being written, or it is damaged.

Facts: storage format, sections 1.2, 2 and 8. The tar is walked by its headers. Behind
damage the walk looks for the next header, so that the rest is checked too. What cannot
be told apart from a torn write at the end of the newest tar is no fault, as long as the
head needs nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tarfailover.errors import FormatError
from tarfailover.format import segment as segments
from tarfailover.format import tar
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK, END_OF_ARCHIVE
from tarfailover.ids import NO_GENERATION
from tarfailover.store.check.content import Content, ContentCheck
from tarfailover.store.check.tars import CHUNK, TarCheck, Watch
from tarfailover.store.finding import FAULT, NOTE, Finding, restore
from tarfailover.store.tarreader import TarReader

_SIGN = tar.encode_header(b"", 0, 0)[100:124]
"""What every header has at byte 100: mode, uid, gid."""
_SIGN_AT = 100

_REOPEN = (
    "if no other fault is told of this file, stop the writer and open the store for writing: the "
    "trailing entries are made anew; else restore the file from a copy of the store"
)


class OpenTarCheck(TarCheck):
    """See the module; `newest` if no other tar has a higher number."""

    def __init__(
        self,
        reader: TarReader,
        content: ContentCheck,
        size: int,
        watch: Watch,
        *,
        newest: bool,
    ) -> None:
        super().__init__(reader, content, size, watch)
        self._newest = newest

    def run(self) -> Iterator[Finding]:
        """Everything found in this tar."""
        content = self.content.of_tar(self.reader, None, None)
        at = 0
        while at < self.size:
            header = self._header(at)
            if header is not None and self._is_trailer(header):
                break
            entry = _segment_entry(at, header)
            if entry is None:
                stop = self._next_header(at)
                yield from self._damage(at, stop)
                at = stop
            else:
                at = entry.position + tar.padded(entry.length)
                yield from (self.entry if at < self.size else self._last)(entry, content)
        yield from self._trailing(at) if at < self.size else self._unclosed()

    def _header(self, at: int) -> tar.Entry | None:
        """The header at `at` if it can be read and its entry is whole."""
        try:
            header = tar.parse_header(self.window.take(at, BLOCK))
        except FormatError:
            return None
        return header if header and at + header.extent <= self.size else None

    def _is_trailer(self, header: tar.Entry) -> bool:
        stem, _, suffix = header.name.rpartition(b".")
        return stem == str(self.reader.name).encode() and suffix in (b"brf", b"gph", b"idx")

    def _next_header(self, at: int) -> int:
        """Where the next readable header behind `at` stands, or the end of the file."""
        base = at + BLOCK
        while base < self.size:
            chunk = bytes(self.window.take(base, CHUNK))
            found = chunk.find(_SIGN)
            while found >= 0:
                start = base + found - _SIGN_AT
                if (start - at) % BLOCK == 0 and self._header(start) is not None:
                    return start
                found = chunk.find(_SIGN, found + 1)
            base += len(chunk)
        return self.size

    def _damage(self, at: int, stop: int) -> Iterator[Finding]:
        """The bytes from `at` to `stop` are no entry."""
        if stop < self.size:
            yield self.finding(
                at,
                "the header of an entry is damaged: readers see nothing of what lies behind it",
                restore(needed=True),
            )
            return
        self.torn.append(
            self.finding(
                at,
                f"the last {stop - at} bytes are no whole entry: a process is writing it, or was "
                "stopped while it did",
                "nothing to do: the next open for writing cuts it off",
                grave=False,
            )
        )

    def _last(self, entry: IndexEntry, content: Content) -> Iterator[Finding]:
        """The last entry may be torn by a power failure: nobody was promised that it is stored."""
        end = entry.position + entry.length
        needed = self.content.needs(entry.segment)
        for finding in self.entry(entry, content):
            padding = finding.offset is not None and finding.offset >= end
            if finding.severity == FAULT and not padding and not needed:
                self.torn.append(finding._replace(severity=NOTE))
            else:
                yield finding

    def _unclosed(self) -> Iterator[Finding]:
        if self._newest:
            yield self.finding(
                self.size,
                "the newest tar has no index yet: a process is writing it, or was killed",
                "nothing to do: the next open for writing closes it",
                grave=False,
            )
        else:
            yield self.finding(
                self.size, "the tar ends without an index, but a newer tar exists", _REOPEN
            )

    def _trailing(self, at: int) -> Iterator[Finding]:
        """Trailing entries begin at `at`: the tar was closed, or is being closed now."""
        closed = self._end_of_index(at)
        whole = closed is not None and closed + len(END_OF_ARCHIVE) <= self.size
        fault = self.reader.index_fault
        if whole or not self._newest:
            where = fault.offset if fault is not None else at
            why = fault.what if fault is not None else "it is cut off"
            yield self.finding(where, f"the index of this tar cannot be used: {why}", _REOPEN)
            return
        yield self.finding(
            at,
            "the trailing entries are not complete: a process is closing the tar, or was stopped "
            "while it did",
            "nothing to do: the next open for writing completes them",
            grave=False,
        )

    def _end_of_index(self, at: int) -> int | None:
        """The end of the index among the trailing entries that begin at `at`."""
        while at < self.size and (header := self._header(at)) is not None:
            at += header.extent
            if header.name.endswith(b".idx"):
                return at
        return None


def _segment_entry(at: int, header: tar.Entry | None) -> IndexEntry | None:
    """The segment that `header` at `at` stands for, if it is one's."""
    named = tar.parse_segment_name(header.name) if header is not None else None
    if header is None or named is None or not 1 <= header.size <= segments.MAX_SEGMENT:
        return None
    return IndexEntry(named.segment, at + BLOCK, header.size, NO_GENERATION)
