"""Looks at the files of TLS, and what is told of them how often."""

from __future__ import annotations

from twisted.internet.task import Clock

from tarfailover.tls.watch import TELL_EVERY, Watch


class Counted:
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.looks = 0
        self.tellings = 0

    def refresh(self) -> None:
        """A look."""
        self.looks += 1

    def tell_ends(self) -> None:
        """What ends soon is told."""
        self.tellings += 1


def test_it_looks_every_minute_and_tells_every_day() -> None:
    clock, contexts = Clock(), Counted()
    watch = Watch(contexts, clock, 60.0)  # type: ignore[arg-type]
    watch.start()
    assert (contexts.looks, contexts.tellings) == (0, 1)
    clock.pump([60.0] * 10)
    assert (contexts.looks, contexts.tellings) == (10, 1)
    clock.pump([60.0] * int(2 * TELL_EVERY / 60))
    assert contexts.tellings == 3
    watch.stop()
    watch.stop()
    assert not clock.getDelayedCalls()
