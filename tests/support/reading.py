"""A process of its own that reads a store as long as a file is not there: ``reading.py DIR STOP``.

Opens the store, follows it, and reads every segment of each head that it meets; opens it
anew now and then. Prints the heads as it meets them, one a line. Ends with a traceback
if a head, or anything that it needs, could not be read.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stores import closure_in

from tarfailover.store.follower import Follower

LOOKS = 25
"""Looks at the directory through one follower, before the next one is opened."""


def read(directory: Path, stop: Path) -> None:
    """Tell the heads that are met; each is whole."""
    last = ""
    while not stop.exists():
        with Follower.open(directory) as follower:
            for _ in range(LOOKS):
                with follower.refresh().acquire() as shown:
                    head = shown.head
                    assert head is not None, follower.no_head
                    assert not head.skipped, head.skipped
                    assert closure_in(shown, head.record.segment)
                if str(head.record) != last:
                    last = str(head.record)
                    print(last, flush=True)  # noqa: T201
                if stop.exists():
                    break


if __name__ == "__main__":
    read(Path(sys.argv[1]), Path(sys.argv[2]))
