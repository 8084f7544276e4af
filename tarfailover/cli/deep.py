"""``check --deep``: every record that a state of the repository reaches."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tarfailover.cli import commands
from tarfailover.cli.commands import DIFFERS
from tarfailover.cli.opening import properties_text
from tarfailover.cli.output import Output
from tarfailover.cli.wording import Document, iso, many, record_document, size, when
from tarfailover.errors import ConfigError, FormatError, TarFailoverError
from tarfailover.format import journal
from tarfailover.format.journal import JournalLine
from tarfailover.ids import RecordId
from tarfailover.repository import Repository
from tarfailover.repository import open as open_repository
from tarfailover.repository.deepcheck import (
    Books,
    Counts,
    Damage,
    DeepCheck,
    load,
    save,
    whole_heads,
)
from tarfailover.repository.opened import FORMS
from tarfailover.store import closure
from tarfailover.store.blobs import KINDS, open_blob_store
from tarfailover.store.blobs.needed import mentioned
from tarfailover.store.closure import Ranks
from tarfailover.store.finding import Progress, unseen

UNFINISHED = 3
"""The check stopped because its time was over, and found no fault until then."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--deep`` and what goes with it."""
    deep = parser.add_argument_group("every record instead of every byte")
    deep.add_argument(
        "--deep",
        action="store_true",
        help="walk the tree of the head, checkpoints included, and check every record it reaches",
    )
    deep.add_argument("--at", metavar="WHEN", help=f"another state than the head: {FORMS}")
    deep.add_argument(
        "--blob-store",
        type=Path,
        metavar="DIR",
        help="also read external binaries, which are in this FileDataStore or FileBlobStore",
    )
    deep.add_argument("--blob-store-kind", choices=KINDS, help="what it is (default: seen)")
    deep.add_argument(
        "--max-duration",
        type=commands.duration,
        metavar="TIME",
        help="stop after this many seconds, or 10m, or 2h",
    )
    deep.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="keep in FILE how far a check came that stopped, and go on from there; removed when "
        "the end is reached",
    )


def refuse_without_deep(options: argparse.Namespace) -> None:
    """Raise ConfigError for options that mean something with ``--deep`` alone."""
    for name in ("at", "blob_store", "blob_store_kind", "max_duration", "resume"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} goes with --deep; give both")


def run(options: argparse.Namespace, output: Output) -> int:
    """Do the check; the exit code says whether there is a fault, or no end yet."""
    if options.resume and options.resume.resolve().parent == options.store.resolve():
        raise ConfigError(
            f"--resume {options.resume}: nothing is written into the store; name a file elsewhere"
        )
    store = options.blob_store and open_blob_store(
        options.blob_store, options.blob_store_kind or "auto"
    )
    with open_repository(options.store, store) as repository:
        at_head = options.at is None
        head = repository.head_line.record if at_head else repository.at(options.at).record
        books = (
            load(options.resume, options.store, options.blob_store) if options.resume else Books()
        )
        skipped = repository.head_line.skipped if at_head else ()
        found = _Run(options, output, repository, books)
        found.tell_skipped(skipped)
        finished = found.walk(head)
        whole = found.whole() if finished and books.counts.damages else None
        if options.resume:
            if finished:
                options.resume.unlink(missing_ok=True)
            else:
                save(options.resume, options.store, books, options.blob_store)
        found.tell(head, finished=finished, whole=whole)
    if books.counts.damages or skipped:
        return DIFFERS
    return 0 if finished else UNFINISHED


class _Whole:
    """What is whole beside a damaged head."""

    def __init__(self, line: JournalLine | None, checkpoints: list[str], *, complete: bool) -> None:
        self.line = line
        self.checkpoints = checkpoints
        self.complete = complete

    def document(self) -> Document:
        line = self.line
        told = None if line is None else {**record_document(line.head), "time": iso(line.time_ms)}
        return {"head": told, "checkpoints": self.checkpoints, "all_looked_at": self.complete}

    def told(self) -> str:
        if self.line is not None:
            return f"the head {self.line.head} of {when(self.line.time_ms)}"
        return "none of the older heads" if self.complete else "not known: the time was over"


class _Run:
    """One run of the command."""

    def __init__(
        self, options: argparse.Namespace, output: Output, repository: Repository, books: Books
    ) -> None:
        self._options = options
        self._output = output
        self._repository = repository
        self._books = books
        self._started = time.monotonic()
        self._skipped: Sequence[str] = ()
        self._progress: Progress = unseen
        self._done = self._total = 0
        self._check = DeepCheck(
            repository.snapshot,
            books,
            clock=time.monotonic,
            seconds=options.max_duration,
            read=self._read,
            blobs=repository.reader.blobs,
        )

    def _read(self, count: int) -> None:
        self._done = min(self._total, self._done + count)
        self._progress(self._done, self._total)

    def tell_skipped(self, lines: Sequence[str]) -> None:
        """Tell which newer heads cannot be checked because they cannot even be the head."""
        self._skipped = lines
        for line in lines:
            self._output.marked("FAULT", f"{journal.NAME}: {line}", "bold red")

    def walk(self, head: RecordId) -> bool:
        """Check everything below `head`; whether the end was reached."""
        for damage in self._books.told:
            self._show(damage)
        snapshot = self._repository.snapshot
        needed = closure.walk(snapshot, [head.segment]).ranks
        self._total = int(snapshot.table.extents(needed)[1].sum(dtype="i8"))
        self._total += self._external_bytes(needed)
        with self._output.progress("checking") as self._progress:
            for damage in self._check.run(head):
                self._show(damage)
        self._progress = unseen
        return self._check.finished

    def _external_bytes(self, ranks: Ranks) -> int:
        """Bytes of external binaries that are to be read, as far as their ids tell."""
        store = self._repository.reader.blobs
        if store is None:
            return 0
        total = 0
        with suppress(TarFailoverError):  # what is damaged is told by the check
            for blob in {each.blob for each in mentioned(self._repository.snapshot, ranks)}:
                with suppress(FormatError):
                    total += store.parse(blob).length or 0
        return total

    def whole(self) -> _Whole:
        """What is whole beside the head."""
        with self._output.busy("looking for a head that is whole"):
            line, complete = whole_heads(self._check, self._repository)
        checkpoints = []
        with suppress(TarFailoverError):  # damaged themselves
            checkpoints = [
                each.name
                for each in self._repository.checkpoints()
                if self._books.is_clean("node", each.node.record)
            ]
        return _Whole(line, checkpoints, complete=complete)

    def _show(self, damage: Damage) -> None:
        where = damage.file or "no tar"
        place = where if damage.offset is None else f"{where}, offset {damage.offset}"
        # An error of the store says the place by itself, behind its directory.
        what = damage.what.removeprefix(f"{self._options.store / where}{place[len(where) :]}: ")
        self._output.marked("FAULT", f"{place}: {what}", "bold red")
        for name in ("path", "part", "record", "lost"):
            self._output.marked("     ", f"{name:<6}  {getattr(damage, name)}", "")

    def tell(self, head: RecordId, *, finished: bool, whole: _Whole | None) -> None:
        """Print what was found."""
        counts, untold = self._books.counts, self._books.untold()
        seconds = time.monotonic() - self._started
        self._output.document(
            {
                "store": str(self._options.store),
                "head": record_document(head),
                "finished": finished,
                "seconds": round(seconds, 3),
                "nodes": counts.nodes,
                "properties": counts.properties,
                "binary_bytes": counts.binary_bytes,
                "external_binaries": counts.external,
                "external_bytes": counts.external_bytes,
                "faults": self._faults(),
                "skipped": list(self._skipped),
                "findings": [each._asdict() for each in self._books.told],
                "not_listed": untold,
                "whole": None if whole is None else whole.document(),
            }
        )
        for segment, count in untold.items():
            self._output.marked(
                "FAULT", f"{many(count, 'more record')} of segment {segment}", "red"
            )
        looked = f"{many(counts.nodes, 'node')}, {properties_text(counts.properties)}"
        binaries = f"{size(counts.binary_bytes)} of binaries"
        facts = [("checked", f"{looked}, {binaries} in {seconds:.1f} s"), ("head", str(head))]
        if counts.external:
            facts.append(("binaries", f"{counts.external:,} in {self._looked_at(counts)}"))
        if whole is not None:
            facts.append(("whole", whole.told()))
            if whole.checkpoints:
                facts.append(("", f"checkpoints {', '.join(whole.checkpoints)}"))
        self._output.facts(facts)
        self._verdict(finished=finished)

    def _looked_at(self, counts: Counts) -> str:
        if self._options.blob_store is None:
            return "an external blob store, which was not looked at"
        return f"{self._options.blob_store}, of which {size(counts.external_bytes)} were read"

    def _faults(self) -> int:
        """Damages, and one if the newest head cannot be used at all."""
        return self._books.counts.damages + bool(self._skipped)

    def _verdict(self, *, finished: bool) -> None:
        faults = self._faults()
        verdict = many(faults, "fault") if faults else "no fault"
        if not finished:
            onward = "the same command goes on" if self._options.resume else "--resume FILE goes on"
            verdict += f" until the time was over; {onward}"
        self._output.line(verdict, "bold red" if faults else "bold green")
