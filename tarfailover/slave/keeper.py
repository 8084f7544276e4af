"""Opens and closes the copy, in the one thread that uses it."""

from __future__ import annotations

from tarfailover.config import SlaveConfig
from tarfailover.errors import DamagedStoreError
from tarfailover.format import manifest
from tarfailover.slave.blobcopy import BlobCopy
from tarfailover.slave.copy import Copy
from tarfailover.store.durable import Disk


class Keeper:
    """Holds what is open, so that nothing stays locked that nobody knows to be open.

    All of it is called in the store's thread.
    """

    def __init__(self) -> None:
        self.disk = Disk()
        self._open: Copy | None = None
        self._had_store = False

    def open(self, config: SlaveConfig) -> Copy:
        """Open the copy; one whose end nobody waited for is closed first.

        Raises DamagedStoreError if all of it vanished since it was open, and as `Copy.open`
        does.
        """
        self.close()
        if self._had_store and not (config.store / manifest.NAME).exists():
            # An empty directory is where a disk is not mounted any more, on another disk.
            raise DamagedStoreError(
                f"{config.store}: the copy that was here is gone; is its disk mounted? To begin a "
                "new copy, start the slave anew"
            )
        accept = config.accept_new_history
        self._open = copy = Copy.open(config.store, accept_new_history=accept, disk=self.disk)
        self._had_store = True
        try:
            copy.blobs = BlobCopy.open(config, copy.writer, self.disk)
        except BaseException:
            self.close()
            raise
        return copy

    def close(self) -> None:
        """Close what is open; raises StoreError."""
        copy, self._open = self._open, None
        if copy is not None:
            copy.close()


def nothing() -> None:
    """Takes its place in the thread's queue."""
