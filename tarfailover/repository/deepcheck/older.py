"""Which states of a repository are whole, when the head is not."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from tarfailover.format.journal import JournalLine
from tarfailover.ids import RecordId
from tarfailover.repository.deepcheck.walk import DeepCheck
from tarfailover.repository.opened import Repository

LINES_LOOKED_AT = 100_000
"""Heads of the journal among which a whole one is looked for."""


def is_whole(check: DeepCheck, record: RecordId) -> bool | None:
    """Whether nothing below the super root `record` is damaged; None if time was over before."""
    books = check.books
    if books.is_clean("node", record):
        return True
    counts, books.quiet = replace(books.counts), True
    try:
        for _ in check.steps(record):
            if record in books.tainted["node"]:
                break
    finally:
        books.counts, books.quiet = counts, False
    if record in books.tainted["node"]:
        books.abandon()
        return False
    return True if check.finished else None


def whole_heads(check: DeepCheck, repository: Repository) -> tuple[JournalLine | None, bool]:
    """An older head that is whole, and whether all that could be one was looked at.

    Looks at the 1st, 2nd, 4th, … head behind the newest until one is whole, and then for
    the newest that is whole between that and the one before: damage mostly came with one
    commit. What the heads share is checked once.
    """
    lines = list(islice(repository.heads(), 1, LINES_LOOKED_AT))
    damaged, step = -1, 1
    while damaged < len(lines) - 1:
        place = min(damaged + step, len(lines) - 1)
        whole = is_whole(check, lines[place].head)
        if whole is None:
            return None, False
        if whole:
            return _newest_whole(check, lines, damaged, place)
        damaged, step = place, step * 2
    return None, True


def _newest_whole(
    check: DeepCheck, lines: list[JournalLine], damaged: int, whole: int
) -> tuple[JournalLine, bool]:
    while whole - damaged > 1:
        middle = (damaged + whole) // 2
        found = is_whole(check, lines[middle].head)
        if found is None:
            return lines[whole], False
        if found:
            whole = middle
        else:
            damaged = middle
    return lines[whole], True
