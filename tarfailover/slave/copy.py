"""The slave's directory: blocking, used from the slave's one thread.

Besides the store it keeps the slave's small state file, and refuses what would write
over somebody else's history.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tarfailover.errors import DivergedError
from tarfailover.format import manifest
from tarfailover.format.journal import NAME as JOURNAL
from tarfailover.ids import RecordId
from tarfailover.slave.blobcopy import BlobCopy
from tarfailover.slave.told import Introduction, ToldHead, why_unknown
from tarfailover.store import journal
from tarfailover.store.cleanup.marks import COPY
from tarfailover.store.cleanup.run import Cleanup, Report
from tarfailover.store.durable import Disk
from tarfailover.store.receiver import Receiver
from tarfailover.store.state import NAME, SlaveState
from tarfailover.store.writer import StoreWriter


class Copy:
    """A store opened for a slave: lock held, head found, state read."""

    def __init__(self, directory: Path, writer: StoreWriter, state: SlaveState, disk: Disk) -> None:
        self.directory = directory
        self.writer = writer
        self.receiver = Receiver(writer)
        self._disk = disk
        self._state = state
        self._generation = ""
        self._cleanup: Cleanup | None = None
        self.blobs: BlobCopy | None = None
        """Its external binaries, if it has a blob store."""
        self._look_at_head()

    @classmethod
    def open(cls, directory: Path, *, accept_new_history: bool, disk: Disk | None = None) -> Copy:
        """Open or begin the copy in `directory`.

        Raises DivergedError if somebody else wrote a head, and as StoreWriter.open does.
        """
        disk = disk or Disk()
        disk.make_directory(directory)
        state = SlaveState.load(directory)
        writer = StoreWriter.open(directory, create=True, headless=state is not None, disk=disk)
        try:
            if state is None:
                state = SlaveState()
                state.save(directory, disk)
            _check_heads(directory, writer, state, accept_new_history=accept_new_history)
        except BaseException:
            writer.close()
            raise
        return cls(directory, writer, state, disk)

    @property
    def head(self) -> RecordId | None:
        """The head of the copy, None before the first sync is complete."""
        return self.writer.head

    @property
    def time(self) -> float:
        """When the master had this head, in seconds since 1970."""
        return self.writer.time_ms / 1000

    @property
    def cursor(self) -> bytes:
        """Where the last complete listing ended in the master's tars."""
        return bytes.fromhex(self._state.cursor)

    def meet(self, welcome: Introduction, *, accept_new_history: bool = False) -> None:
        """Raise DivergedError if this master must not be followed; remember it otherwise."""
        state = self._state
        epoch = self._epoch(welcome, accept_new_history=accept_new_history)
        repository = welcome.repository
        if repository is None:
            # Whether it is the same one is seen in its segments: see check_known.
            repository = state.repository
        if state.repository and repository != state.repository:
            raise DivergedError(
                f"the master serves repository {repository!r}, but {self.directory} is a "
                f"copy of {state.repository!r}; use another directory, or the right master"
            )
        seen = replace(state, epoch=epoch, repository=repository)
        if seen != state:
            seen.save(self.directory, self._disk)
            self._state = seen

    def _epoch(self, welcome: Introduction, *, accept_new_history: bool) -> int:
        """The epoch of this master; raises DivergedError if it may have been replaced."""
        followed = self._state.epoch
        if welcome.epoch is not None:
            if welcome.epoch < followed:
                raise DivergedError(
                    f"the master has epoch {welcome.epoch}, but {self.directory} has followed "
                    f"epoch {followed}: this master was replaced; follow the newer one"
                )
            return welcome.epoch
        if followed and not accept_new_history:
            raise DivergedError(
                f"{self.directory} has followed epoch {followed}, and an Oak primary cannot tell "
                "of which it is: it may be the one that was replaced; if it is not, start once "
                "with --accept-new-history"
            )
        return 0

    def check_known(self, head: ToldHead, *, accept_new_history: bool) -> None:
        """Raise DivergedError if the master never had the head of this copy."""
        if self.head is None or head.known or accept_new_history:
            return
        why = why_unknown(head).format(head=self.head, copy=self.directory)
        raise DivergedError(
            f"{why}; to follow it all the same, start once with --accept-new-history"
        )

    def check_alone(self) -> None:
        """Raise DivergedError if somebody else wrote into this copy while it was open."""
        intruder = self.writer.intruder()
        if intruder:
            raise DivergedError(
                f"{intruder}: somebody else writes into this copy, and nothing of it is written "
                "over; find out who, and see to it that it ends; then remove what should not be "
                "there, or give the copy up, or start once with --accept-new-history"
            )

    def commit(self, head: ToldHead, cursor: bytes) -> None:
        """Move the head; a crash in between leaves the old one, or the new one.

        Raises SegmentMissingError, StoreIOError, and as `check_alone` does.
        """
        self.check_alone()
        self._state = self._state.with_head(head.head, self.head)
        self._state.save(self.directory, self._disk)
        self.receiver.commit(head.head, head.time_ms)
        self._look_at_head()
        if not head.known:
            # Of the history before this one much may lie here, whatever its generation.
            self._state = replace(self._state, cleaned="")
        # Written with the next head, or at the end: an old cursor only makes a longer list.
        self._state = replace(self._state, cursor=cursor.hex())

    # cleaning up

    def _look_at_head(self) -> None:
        with self.writer.snapshot() as snapshot:
            shown = snapshot.head
        if shown is not None:
            self._generation = f"{shown.generation.generation}/{shown.generation.full}"

    @property
    def cleanup_due(self) -> bool:
        """Whether no cleanup was complete since the head is of its generation."""
        return self.head is not None and self._state.cleaned != self._generation

    def clean(self) -> Report | None:
        """Do a part of the cleanup that is due; what it did, once it is at its end.

        No head may be pulled meanwhile. If some tars were left as they are, the cleanup
        stays due. Raises StoreError; then the next call begins anew, unless the writer
        has failed.
        """
        # What waits in memory may refer to what is going to be removed.
        self.receiver.forget()
        cleanup = self._cleanup = self._cleanup or Cleanup(self.writer, COPY)
        try:
            if cleanup.step():
                return None
        except BaseException:
            self.stop_cleaning()
            raise
        self.stop_cleaning()
        if not cleanup.report.failures:
            cleaned = replace(self._state, cleaned=self._generation)
            cleaned.save(self.directory, self._disk)
            self._state = cleaned
        return cleanup.report

    def stop_cleaning(self) -> None:
        """Give up the cleanup that is under way; raises StoreIOError."""
        cleanup, self._cleanup = self._cleanup, None
        if cleanup is not None:
            cleanup.close()

    def close(self) -> None:
        """Seal the last tar, keep the state, and give the lock back."""
        try:
            self.stop_cleaning()
            if self.blobs is not None:
                self.blobs.end()
        finally:
            self._close()

    def _close(self) -> None:
        try:
            self.writer.close()
        finally:
            # Not into the empty directory below a disk that is not mounted any more.
            if (self.directory / manifest.NAME).exists():
                self._state.save(self.directory, self._disk)


def _check_heads(
    directory: Path, writer: StoreWriter, state: SlaveState, *, accept_new_history: bool
) -> None:
    if writer.head is None or not state.heads or accept_new_history:
        return
    if _written_since(directory, writer.head, state.heads):
        raise DivergedError(
            f"{directory}: the head {writer.head} was not written by this slave (that was "
            f"{state.heads[0]}): the copy was opened for writing elsewhere; to throw those "
            f"changes away, start once with --accept-new-history; to keep them, remove {NAME} "
            "and use the directory as a repository of its own"
        )


def _written_since(directory: Path, head: RecordId, own: tuple[str, ...]) -> bool:
    """Whether `head` came into the journal after this slave's `own` heads.

    It came before them if opening had to step back over them.
    """
    newest = journal.newest_first(directory / JOURNAL)
    first = next((str(line.head) for line in newest if str(line.head) in (*own, str(head))), "")
    return first not in own
