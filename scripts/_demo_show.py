"""What the demo shows: numbered steps, a bar while a person watches, a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

MIB = 1024 * 1024
PLAIN_STEPS = 4
"""Lines that stand for a bar where nobody watches."""

Moved = Callable[[float], None]
"""Told how much is done, in the unit of the bar."""


class Row(NamedTuple):
    """One thing that happened."""

    what: str
    segments: int
    size: int
    """Bytes."""
    seconds: float
    rated: bool = True
    """Whether bytes by seconds says something."""

    def cells(self) -> tuple[str, ...]:
        """As text, with the speed."""
        speed = f"{self.size / self.seconds / MIB:,.1f}" if self.rated and self.seconds else ""
        size, seconds = f"{self.size / MIB:,.1f}", f"{self.seconds:.2f}"
        return self.what, f"{self.segments:,}", size, seconds, speed


class Show:
    """Prints to the terminal, or plainly into a pipe or a file."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._number = 0
        self._rows: list[Row] = []

    def title(self, text: str) -> None:
        """The first line."""
        self._print(Text(text, "bold"))

    def step(self, text: str) -> None:
        """The heading of what is done next, with its number."""
        self._number += 1
        self._print(Text.assemble("\n", (f"{self._number}. {text}", "bold cyan")))

    def command(self, *words: str) -> None:
        """A command that is run, as somebody could type it."""
        self._print(Text(f"   $ {' '.join(words)}", "dim"))

    def say(self, text: str) -> None:
        """One line about what happened."""
        self._print(Text(f"   {text}"))

    def raw(self, text: str) -> None:
        """Text as it is."""
        self._print(Text(f"\n{text}"))

    def happened(self, row: Row) -> None:
        """A row of the table at the end."""
        self._rows.append(row)

    @contextmanager
    def bar(self, unit: str, total: float) -> Iterator[Moved]:
        """A bar for what moves from 0 to `total`; some plain lines if nobody watches."""
        if self._console.is_terminal:
            with self._drawn(unit, total) as moved:
                yield moved
        else:
            yield self._plain(unit, total)

    @contextmanager
    def _drawn(self, unit: str, total: float) -> Iterator[Moved]:
        columns = (
            TextColumn("  "),
            BarColumn(bar_width=40),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=self._console, refresh_per_second=30) as progress:
            bar = progress.add_task("", total=total)

            def moved(done: float) -> None:
                told = f"{_amount(done)} of {_amount(total)} {unit}"
                progress.update(bar, completed=done, description=told)

            moved(0)
            yield moved

    def _plain(self, unit: str, total: float) -> Moved:
        told = [0]

        def moved(done: float) -> None:
            part = int(PLAIN_STEPS * done / total) if total else PLAIN_STEPS
            if part > told[0]:
                told[0] = part
                self.say(f"{_amount(done)} of {_amount(total)} {unit}")

        return moved

    def table(self) -> None:
        """What happened, in numbers."""
        titles = ("what", "segments", "MiB", "seconds", "MiB/s")
        rows = [row.cells() for row in self._rows]
        if not self._console.is_terminal:
            self._aligned([titles, *rows])
            return
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for number, title in enumerate(titles):
            table.add_column(title, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        self._console.print()
        self._console.print(table, soft_wrap=False)

    def _aligned(self, rows: Sequence[tuple[str, ...]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        self._print(Text())
        for first, *numbers in rows:
            cells = [first.ljust(widths[0])]
            cells += [n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True)]
            self._print(Text("  ".join(cells)))

    def end(self, text: str, *, good: bool) -> None:
        """The last line."""
        self._print(Text.assemble("\n", (text, "bold green" if good else "bold red")))

    def _print(self, text: Text) -> None:
        self._console.print(text)


def _amount(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
