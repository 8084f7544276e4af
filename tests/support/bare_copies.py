"""A slave's copy without its slave: opened, given segments, and cleaned up."""

from __future__ import annotations

from pathlib import Path

from stores import QuickDisk, Sample, head_in

from tarfailover.slave.copy import Copy
from tarfailover.store.intake import Arrival
from tarfailover.store.receiver import Receipt
from tarfailover.wire.messages import HeadIs


def opened(directory: Path) -> Copy:
    """The copy in `directory`, which is begun if there is none."""
    return Copy.open(directory, accept_new_history=False, disk=QuickDisk())


def arrival(sample: Sample) -> Arrival:
    """A segment as it comes."""
    return Arrival.of(sample.segment, sample.data)


def take(copy: Copy, *samples: Sample) -> Receipt:
    """Segments come."""
    return copy.receiver.take(map(arrival, samples))


def bring(copy: Copy, *samples: Sample, known: bool = True) -> None:
    """One sync, to the head in the last of `samples`."""
    receipt = take(copy, *samples)
    assert not (receipt.missing or receipt.rejected)
    last = samples[-1]
    copy.commit(HeadIs(head_in(last.segment), 1, last.generation, known), b"")


def clean(copy: Copy) -> None:
    """A whole cleanup."""
    while copy.clean() is None:
        pass


def tars_size(directory: Path) -> int:
    """Bytes of all tars."""
    return sum(path.stat().st_size for path in directory.glob("*.tar"))
