"""The table of the fault matrix, and the seed with which it can be had again."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import SystemRandom
from typing import Any

from cells import FAULTS, LINKS, Cell
from failing import UP, Strike
from twisted.logger import globalLogBeginner
from worlds import Outcome

VARIABLE = "FAULT_SEED"
"""The environment variable that sets the seed."""
FAILED = "FAILED"
WIDTH = 13


def seed_of_this_run() -> int:
    """The seed: the one that was asked for, always the same in CI, else another every time."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        return int(given)
    return 1 if "CI" in os.environ else SystemRandom().randrange(1_000_000)


def _forget_logged() -> None:
    """Until somebody begins to log, Twisted keeps what is said, and with it whoever said it."""
    globalLogBeginner._initialBuffer._buffer.clear()


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


class Report:
    """What became of the cells so far."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.outcomes: dict[Cell, Outcome | None] = {}
        self._watched: list[weakref.ref[Any]] = []
        self._resident: list[int] = []
        """Bytes of this process after each cell."""

    def watch(self, objects: Iterable[Any]) -> None:
        """These must be gone at the end."""
        _forget_logged()
        self._watched += [weakref.ref(each) for each in objects]
        self._resident.append(resident())

    def still_alive(self) -> list[str]:
        """What is not gone."""
        _forget_logged()
        gc.collect()
        found = (watched() for watched in self._watched)
        return [type(each).__name__ for each in found if each is not None]

    def growth(self) -> int:
        """Bytes by which the process has grown since a quarter of the cells was done."""
        return self._resident[-1] - self._resident[len(self._resident) // 4]

    @contextlib.contextmanager
    def of(self, cell: Cell, strike: Strike | None) -> Iterator[None]:
        """Whatever fails inside says how to have it again."""
        try:
            yield
        except BaseException as error:
            self.outcomes[cell] = None
            error.args = (f"{error}\n{strike}; again with {VARIABLE}={self.seed}",)
            raise

    def lines(self) -> Iterator[str]:
        """The table, a part for each kind of link."""
        yield f"seed: {VARIABLE}={self.seed}"
        for link in dict.fromkeys(cell.link for cell in self.outcomes):
            yield ""
            yield f"{link:<18}" + "".join(f"{does:<{WIDTH}}" for does in FAULTS).rstrip()
            for direction, phase in LINKS[link]:
                row = [Cell(link, direction, phase, does) for does in FAULTS]
                if any(cell in self.outcomes for cell in row):
                    told = "".join(f"{self._told(cell):<{WIDTH}}" for cell in row)
                    yield f"{_arrow(direction)} {phase:<15}{told}".rstrip()
        yield ""
        yield (
            "→ from the slave to the master, ← back; what the slave says first after the fault, "
            "and seconds until then"
        )

    def _told(self, cell: Cell) -> str:
        if cell not in self.outcomes:
            return "-"
        outcome = self.outcomes[cell]
        return FAILED if outcome is None else str(outcome)


def _arrow(direction: str) -> str:
    return "→" if direction == UP else "←"
