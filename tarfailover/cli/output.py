"""What a command prints: one JSON document, or text for a person.

Tables have lines and colours only on a terminal; in a pipe they are plain aligned
columns, never cut off. A progress bar goes to stderr, if a person is watching.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from tarfailover.cli.wording import Document, error_document
from tarfailover.errors import TarFailoverError
from tarfailover.store.finding import Progress as Progressing
from tarfailover.store.finding import unseen

_GAP = "  "
_UNBOUNDED = 100_000


class Column(NamedTuple):
    """A column of a table."""

    title: str
    right: bool = False
    """Whether its values are numbers, to be aligned at their ends."""


class Output:
    """Prints for one run of a command; `as_json` for a program that reads."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        # A width is asked of the terminal; in a pipe nothing depends on it.
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._terminal = self._console.is_terminal
        self._above: Console | None = None
        """While a bar is shown on the same terminal: what prints above it."""
        self._broken = False
        """Whether an error has ended a listing, and stands in it."""

    def document(self, document: Document) -> None:
        """Print `document` if this is what is wanted."""
        if self.as_json and not self._broken:
            print(json.dumps(document, indent=2, ensure_ascii=False))

    def listing(
        self,
        document: Document,
        key: str,
        rows: Iterable[Document],
        rest: Callable[[], Document] = dict,
    ) -> None:
        """Print `document` with the list `key` of `rows`, each as it comes, and then `rest`.

        An error among the rows ends the list, and stands behind it as ``error``.
        """
        print(json.dumps(document, indent=2, ensure_ascii=False)[:-2], end="")
        print(f',\n  "{key}": [', end="")
        gap = "\n"
        try:
            for row in rows:
                print(f"{gap}    {json.dumps(row, ensure_ascii=False)}", end="")
                gap = ",\n"
            last = rest()
        except TarFailoverError as error:
            self._broken = True
            self._end_listing({"error": error_document(error)})
            raise
        self._end_listing(last)

    def _end_listing(self, rest: Document) -> None:
        print("\n  ]", end="")
        for name, value in rest.items():
            print(f',\n  "{name}": {json.dumps(value, ensure_ascii=False)}', end="")
        print("\n}")

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line of text."""
        if not self.as_json:
            self._print(Text(text, style))

    def marked(self, mark: str, text: str, style: str) -> None:
        """Print a line that begins with a coloured mark; on a terminal it is folded at words."""
        if self.as_json:
            return
        indent = len(mark) + len(_GAP)
        first, *rest = self._folded(text, indent)
        self._print(Text.assemble((mark, style), _GAP, first))
        for line in rest:
            self._print(Text(" " * indent + line))

    def _folded(self, text: str, indent: int) -> list[str]:
        if not self._terminal:
            return [text]
        width = max(20, self._console.width - indent)
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Print names and values below each other."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            if not self.as_json:
                self._print(Text.assemble((name.ljust(width), "bold"), _GAP, value))

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Print `rows` of one value for each of the `columns`."""
        if self.as_json:
            return
        table = _ruled(columns, rows)
        if self._terminal and self._fits(table):
            self._console.print(table, soft_wrap=False)
            return
        for line in _aligned(columns, rows):
            self._print(Text(line))

    def _fits(self, table: Table) -> bool:
        """Whether the terminal is wide enough: else cells would be folded or cut off."""
        unbounded = self._console.options.update(max_width=_UNBOUNDED)
        needed = self._console.measure(table, options=unbounded).maximum
        return needed <= self._console.width

    def _print(self, text: Text) -> None:
        if not self._terminal:
            print(text.plain)
            return
        console = self._above or self._console
        console.print(text, soft_wrap=True, highlight=False)

    @contextmanager
    def progress(self, title: str, unit: str = "bytes") -> Iterator[Progressing]:
        """A callback that moves a bar on stderr; without effect if nobody is watching."""
        console = Console(stderr=True)
        if self.as_json or not console.is_terminal:
            yield unseen
            return
        with _bar(console, unit) as bar:
            task = bar.add_task(title, start=False, total=1)

            def show(done: int, total: int) -> None:
                bar.start_task(task)
                bar.update(task, completed=done, total=total)

            self._above = console if self._terminal else None
            try:
                yield show
            finally:
                self._above = None

    @contextmanager
    def busy(self, title: str) -> Iterator[None]:
        """A sign of life on stderr for work that cannot be measured."""
        console = Console(stderr=True)
        if self.as_json or not console.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            bar.add_task(title, total=1)
            yield


def _bar(console: Console, unit: str) -> Progress:
    amount = (
        (DownloadColumn(binary_units=True), TransferSpeedColumn())
        if unit == "bytes"
        else (MofNCompleteColumn(), TextColumn(unit))
    )
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *amount,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _ruled(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    titles = [column.title for column in columns]
    widths = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        yield _GAP.join(cells).rstrip()
