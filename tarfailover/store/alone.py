"""Whether anybody else writes the store that this process holds the lock of.

The lock keeps out who asks for it. It does not keep out a copied file, an editor, or a
program that was told to ignore it; and whoever removes the lock file lets the next one
in. So before a head moves, the names in the directory and the end of the journal are
compared with what this process left there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tarfailover.errors import DamagedStoreError
from tarfailover.format.tar import TarName
from tarfailover.store.directory import tar_names
from tarfailover.store.durable import told
from tarfailover.store.journalfile import JournalFile
from tarfailover.store.tarreader import TarReader


class Alone:
    """Knows the tars that are this process's own, by name and inode."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[TarName, int] = {}

    def take_stock(self) -> None:
        """All tars that are there now count as own."""
        self._known = self._tars()

    def intruder(self, readers: Iterable[TarReader], journal: JournalFile) -> str:
        """What is not as this process left it, '' if all is; `readers` are its tars now.

        Raises DamagedStoreError if something of it is gone, StoreIOError.
        """
        own = {reader.name: reader.status.st_ino for reader in readers}
        self._known.update(own)
        found = self._tars()
        for name, inode in found.items():
            known = self._known.get(name)
            if known != inode:
                what = "was replaced" if known else "appeared, and was not written by this process"
                return f"{self._directory / str(name)} {what}"
        gone = next((name for name in own if name not in found), None)
        if gone is not None:
            raise DamagedStoreError(
                f"{self._directory / str(gone)} was removed while it was in use"
            )
        return journal.intruder()

    def _tars(self) -> dict[TarName, int]:
        found: dict[TarName, int] = {}
        for name in tar_names(self._directory):
            path = self._directory / str(name)
            with told("look at", path):
                # Not the inode in the directory's entry: some file systems have another there.
                found[name] = path.stat().st_ino
        return found
